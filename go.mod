module github.com/rookery-mail/rookery

go 1.26
