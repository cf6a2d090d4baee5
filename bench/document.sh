# document.sh: sourced by peers and growth. What they measure takes long, so the
# document is looked at first.

# document_has FILE SECTION... reports whether results can go into a document: it can
# be written, and has a line <!-- SECTION --> and a line <!-- end of SECTION --> for
# each. If not, it says why.
document_has() {
	local file=$1 section line
	shift
	if [ ! -f "$file" ] || [ ! -w "$file" ]; then
		echo "${0##*/}: the results are to go into $file, which is not there or cannot be written; name another document with DOC" >&2
		return 1
	fi
	for section in "$@"; do
		for line in "<!-- $section -->" "<!-- end of $section -->"; do
			grep -qxF -- "$line" "$file" && continue
			echo "${0##*/}: $file lacks the line $line: the results go between <!-- $section --> and <!-- end of $section -->" >&2
			return 1
		done
	done
}
