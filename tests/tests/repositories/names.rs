//! Repositories whose names or line ends are the difficulty.

use std::fs;

use crate::agent::Recipe;
use crate::comparison::compare;

#[test]
fn files_with_crlf_are_worked_on_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
git config core.autocrlf input
printf '%s\n' '*.bat text eol=crlf' '*.sh text eol=lf' '*.txt text=auto' '*.raw -text' > .gitattributes
printf 'echo WORD\r\nexit\r\n' > run.bat
printf 'one WORD\r\ntwo\r\n' > both.txt
printf 'raw WORD\r\n' > kept.raw
printf 'no rule WORD\r\nof its own\n' > mixed
"#,
        early: &[
            "git ls-files --eol",
            "printf 'more\\n' >> run.bat; printf 'more\\r\\n' >> both.txt; printf 'more\\n' >> kept.raw; printf 'more\\r\\n' >> mixed",
            "git status --porcelain=v2; git diff | cat -A",
            "git stash; od -c run.bat; git stash pop; od -c run.bat",
        ],
        late: &[
            "sed -i 's/\\r$//' both.txt mixed; git status --porcelain=v2; git diff | cat -A",
            "git add --renormalize .; git commit -qm 'Renormalize'; git ls-files --eol",
            "rm run.bat both.txt kept.raw mixed; git checkout .; md5sum run.bat both.txt kept.raw mixed",
        ],
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}

#[test]
fn names_that_differ_only_in_case_are_worked_on_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
mkdir Source source SOURCE
for folder in Source source SOURCE; do printf '%s: WORD\n' "$folder" > "$folder/file"; printf x > "$folder/File"; done
printf 'upper WORD\n' > MAKEFILE; printf 'mixed\n' > Makefile; printf 'lower\n' > makefile
"#,
        early: &[
            "git ls-files; git config core.ignorecase",
            "git mv makefile makeFile; printf 'more\\n' >> Makefile; rm MAKEFILE; printf new > SOURCE/FILE",
            "git status --porcelain=v2; git stash -u; ls -d [MmSs]*; git stash pop; ls -d [MmSs]*",
        ],
        late: &[
            "git mv Source/file Source/fIle; git rm -rq source; mkdir sourcE; printf x > sourcE/file; git status --porcelain=v2",
            "git add -A; git commit -qm 'Rename'; git checkout -q main; ls -d [MmSs]* source/*; git checkout -q work; ls -d [MmSs]* sourcE/*",
        ],
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}

#[test]
fn names_that_are_not_utf_8_are_worked_on_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
printf 'latin-1: WORD\n' > "$(printf 'caf\351.txt')"
mkdir "$(printf '\377\376folder')" "$(printf 'na\303\257ve')"
printf 'in it: WORD\n' > "$(printf '\377\376folder/\200')"
printf 'UTF-8\n' > "$(printf 'na\303\257ve/\360\237\246\200')"
printf 'composed\n' > "$(printf 'e\314\201')"; printf 'one character\n' > "$(printf '\303\251')"
printf 'newline WORD\n' > "$(printf 'two\nlines')"; printf 'escape\n' > "$(printf 'red\033[31m')"
printf 'quotes\n' > "it's \"quoted\""; printf 'dash\n' > ./-rf; printf 'star\n' > '*'; printf 'blank\n' > ' '
printf 'long\n' > "$(printf 'x%.0s' $(seq 255))"
"#,
        early: &[
            "git ls-files",
            "printf 'more\\n' >> \"$(printf 'caf\\351.txt')\"; git mv \"$(printf '\\377\\376folder')\" \"$(printf '\\376\\377')\"",
            "printf 'new\\n' > \"$(printf 'new\\240')\"; git status --porcelain=v2; git stash -u; git stash pop",
        ],
        late: &[
            "printf x > \"$(printf 'loose\\351')\"; mkdir \"$(printf 'loose\\352')\"; printf x > \"$(printf 'loose\\352/\\353')\"",
            "git clean -nd; git clean -fdx",
            "git rm -q -- -rf '\\*'; git commit -qm 'Remove'; git -c core.quotePath=false ls-files | od -c | tail -n 30",
        ],
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}

#[test]
fn a_project_with_an_ipc_folder_of_its_own_is_worked_on_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
mkdir -p ipc/messages ipc/input packages/core/ipc extra
printf 'module.exports = "WORD";\n' > ipc/index.js
printf '{"type":"message","text":"mine"}\n' > ipc/messages/1.json
printf 'mine\n' > ipc/input/_close
printf 'a channel\n' > packages/core/ipc/channel.js
printf 'mine\n' > extra/own.txt
"#,
        early: &[
            "find ipc extra packages | sort",
            "printf 'more\\n' >> ipc/index.js; printf 'new\\n' > ipc/new.js; rm ipc/input/_close; printf x > packages/core/ipc/new.js",
            "git status --porcelain=v2 -uall; git stash -u; find ipc | sort; git stash pop; find ipc | sort",
        ],
        late: &[
            "printf x > ipc/loose; mkdir ipc/loose.d; printf x > extra/loose; git clean -fd",
            "git mv ipc bridge; git commit -qm 'Rename ipc'; git mv bridge ipc; git commit -qm 'And back'",
            "rm -rf ipc extra; git status --porcelain=v2; git checkout ipc extra; find ipc extra | sort",
        ],
        owns: &["ipc", "extra"],
        ..Recipe::USUAL
    };
    compare(&recipe, |workspace| {
        assert_eq!(
            fs::read_to_string(workspace.join("ipc/messages/1.json")).unwrap(),
            "{\"type\":\"message\",\"text\":\"mine\"}\n"
        );
        assert_eq!(fs::read_to_string(workspace.join("extra/own.txt")).unwrap(), "mine\n");
    });
}
