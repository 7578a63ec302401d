//! Repositories that other tools work in.

use crate::agent::Recipe;
use crate::comparison::compare;

/// What git-lfs does, as two shell scripts of the repository: the file in the history names the content, which lies below
/// `.git`. git-lfs itself is not in the image.
const FILTER: &str = r#"
mkdir .filter
cat > .filter/clean.sh <<'END'
set -eu
store=$(git rev-parse --git-dir)/large
mkdir -p "$store"
cat > "$store/incoming.$$"
sum=$(sha256sum < "$store/incoming.$$" | cut -d' ' -f1)
size=$(wc -c < "$store/incoming.$$")
mv "$store/incoming.$$" "$store/$sum"
printf 'large file\noid %s\nsize %s\n' "$sum" "$size"
END
cat > .filter/smudge.sh <<'END'
set -eu
exec cat "$(git rev-parse --git-dir)/large/$(sed -n 's/^oid //p')"
END
git config filter.large.clean 'sh .filter/clean.sh'
git config filter.large.smudge 'sh .filter/smudge.sh'
git config filter.large.required true
printf '%s\n' '*.bin filter=large -text' > .gitattributes
mkdir assets
for i in 1 2 3; do seq "$i" 3 400000 | tr '\n' '\0' > "assets/$i.bin"; done
printf 'binary \000 with a WORD in it' > assets/word.bin
"#;

#[test]
fn large_files_behind_a_filter_are_worked_on_as_without_aigo() {
    let recipe = Recipe {
        build: FILTER,
        early: &[
            "git show HEAD:assets/1.bin; wc -c assets/1.bin",
            "printf 'changed' >> assets/2.bin; rm assets/3.bin; git status --porcelain=v2",
            "git stash; git status --porcelain=v2; sha256sum assets/*; git stash pop; sha256sum assets/*",
            "git checkout assets/3.bin; seq 1000 | tr '\\n' '\\0' > assets/new.bin",
        ],
        late: &[
            "git ls-files -s assets; git cat-file -p :assets/new.bin",
            "rm -r assets; git checkout assets; sha256sum assets/*",
        ],
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}

#[test]
fn a_virtual_environment_is_worked_in_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
python3 -m venv .venv
printf '%s\n' 'WORD = "a word"' 'def twice(number):' '    return 2 * number' > src/twice.py
printf '%s\n' 'import unittest' 'from src.twice import twice' 'class Twice(unittest.TestCase):' \
    '    def test(self):' '        self.assertEqual(twice(2), 4)' > tests/test_twice.py
touch src/__init__.py tests/__init__.py
"#,
        early: &[
            "readlink .venv/bin/python; .venv/bin/python -c 'import sys; print(sys.prefix, sys.executable)'",
            ". .venv/bin/activate && python -m unittest --quiet 2>&1 | sed 's/in [0-9.]*s/in a moment/'",
            "sed -i 's/2 \\* number/number + number/' src/twice.py; .venv/bin/python -B -m unittest -q 2>&1 | sed 's/in [0-9.]*s/in a moment/'",
            ".venv/bin/pip --version; .venv/bin/pip list --format=freeze --disable-pip-version-check",
        ],
        late: &["git check-ignore -v .venv; .venv/bin/python -B -c 'import src.twice; print(src.twice.twice(4))'"],
        // What nobody can fetch again without a network.
        clean: "git clean -fdx -e .venv",
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}
