//! Repositories with more files than most tools like.

use std::fs;
use std::path::{Path, PathBuf};

use crate::agent::Recipe;
use crate::comparison::compare_filled;

/// Packages below `node_modules`, and files of each: 50,000 together.
const PACKAGES: usize = 1_000;
const PACKAGE_FILES: usize = 50;
/// Packages of the monorepo, and files of each: 200,000 together.
const PROJECTS: usize = 1_000;
const PROJECT_FILES: usize = 200;
/// Threads that write files: as many as the smallest machine has processors.
const WRITERS: usize = 2;
/// Contents that the files of the monorepo share: git keeps each once, so that making it stays cheap.
const CONTENTS: usize = 500;

/// Writes the folders, which `folder` makes one by one.
fn write_many(folders: usize, folder: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let folder = &folder;
            scope.spawn(move || (writer..folders).step_by(WRITERS).for_each(folder));
        }
    });
}

/// The files that others are further names of, as pnpm makes them in `node_modules`. Two hundred thousand inodes would take
/// some minutes to make, copy and remove on a disk with a journal.
struct Pool(PathBuf);

impl Pool {
    /// Makes the files beside the workspace.
    fn new(workspace: &Path, contents: usize, content: impl Fn(usize) -> String) -> Self {
        let pool = workspace.with_file_name("pool");
        fs::create_dir(&pool).unwrap();
        for number in 0..contents {
            fs::write(pool.join(number.to_string()), content(number)).unwrap();
        }
        Self(pool)
    }

    /// Gives a file of the pool one more name.
    fn link(&self, number: usize, path: &Path) {
        fs::hard_link(self.0.join(number.to_string()), path).unwrap();
    }
}

#[test]
fn fifty_thousand_files_of_node_modules_are_worked_beside_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
printf '%s\n' '{"name": "project", "version": "1.0.0", "private": true}' > package.json
printf '%s\n' 'let sum = 0;' 'for (let i = 0; i < 1000; i++) sum += require("package-" + i);' 'console.log("sum", sum);' > sum.js
mkdir node_modules/.bin
ln -s ../package-1/index.js node_modules/.bin/one
"#,
        early: &[
            "node sum.js",
            "printf 'module.exports = 1;\\n' > node_modules/package-7/index.js; rm -r node_modules/package-8; node sum.js",
            "git status --porcelain=v2 --ignored; git check-ignore node_modules/package-9/index.js",
        ],
        late: &["find node_modules -type f | wc -l; grep -rl WORD node_modules | wc -l"],
        // Nobody can fetch them again without a network.
        clean: "git clean -fdx -e node_modules",
        ..Recipe::USUAL
    };
    let fill = |workspace: &Path| {
        let pool = Pool::new(workspace, PACKAGE_FILES, |file| format!("// text {file}\n"));
        write_many(PACKAGES, |number| {
            let package = workspace.join(format!("node_modules/package-{number}"));
            fs::create_dir_all(package.join("lib")).unwrap();
            fs::write(package.join("package.json"), format!("{{\"name\": \"package-{number}\"}}\n")).unwrap();
            fs::write(package.join("index.js"), format!("module.exports = {number};\n")).unwrap();
            for file in 2..PACKAGE_FILES {
                let path = package.join(format!("lib/{file}.js"));
                if number % 100 == 0 && file == 2 {
                    fs::write(path, "// WORD\n").unwrap();
                } else {
                    pool.link(file, &path);
                }
            }
        });
    };
    compare_filled(&recipe, fill, |_| ());
}

#[test]
fn a_tree_of_two_hundred_thousand_files_is_worked_on_as_without_aigo() {
    let recipe = Recipe {
        // A name that goes changes the ctime of the others, which git would read again each time.
        build: "git config core.trustctime false",
        early: &[
            "git ls-files | wc -l; git grep -c WORD -- packages | wc -l",
            "for i in 10 20 30; do printf 'more\\n' >> packages/p$i/src/f$i.txt; done; git diff --stat",
        ],
        late: &[
            "git mv packages/p1 packages/renamed; git rm -rq packages/p2; git status --porcelain=v2 | wc -l",
            "git add -A; git commit -qm 'Move a package'; git diff --stat --find-renames main... | tail -n 1",
        ],
        ..Recipe::USUAL
    };
    let fill = |workspace: &Path| {
        let pool = Pool::new(workspace, CONTENTS, |content| format!("content {content}\n"));
        write_many(PROJECTS, |number| {
            let source = workspace.join(format!("packages/p{number}/src"));
            fs::create_dir_all(&source).unwrap();
            for file in 0..PROJECT_FILES {
                let path = source.join(format!("f{file}.txt"));
                // What the agent edits has no other name.
                match file % 10 {
                    0 => {
                        let word = if (number + file) % 500 == 0 { "WORD" } else { "text" };
                        fs::write(path, format!("{}: {word}\n", file % 100)).unwrap();
                    }
                    _ => pool.link((number * PROJECT_FILES + file) % CONTENTS, &path),
                }
            }
        });
    };
    compare_filled(&recipe, fill, |_| ());
}
