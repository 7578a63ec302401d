//! Repositories within repositories.

use crate::agent::Recipe;
use crate::comparison::compare;

#[test]
fn a_repository_with_submodules_is_worked_on_as_without_aigo() {
    let recipe = Recipe {
        // The places that they came from are gone, as a server out of reach is.
        build: r#"
for name in lib deep; do
    git init --quiet --initial-branch main "/tmp/$name"
    printf 'The library %s: WORD\n' "$name" > "/tmp/$name/$name.txt"
    git -C "/tmp/$name" add --all
    git -C "/tmp/$name" commit --quiet --message "The library $name"
done
git -C /tmp/lib -c protocol.file.allow=always submodule --quiet add /tmp/deep deep
git -C /tmp/lib commit --quiet --message 'Use deep'
git -c protocol.file.allow=always submodule --quiet add /tmp/lib vendor/lib
git -c protocol.file.allow=always submodule --quiet update --init --recursive
git submodule --quiet foreach --recursive 'git config gc.auto 0'
rm -rf /tmp/lib /tmp/deep
"#,
        early: &[
            "git submodule status --recursive",
            "git -C vendor/lib switch -c fix; printf 'mended\\n' >> vendor/lib/lib.txt; printf x > vendor/lib/untracked",
            "git status --porcelain=v2",
            "git -C vendor/lib stash -u; git -C vendor/lib stash pop",
            "git -C vendor/lib add -A; git -C vendor/lib commit -qm 'Mend the library'",
            "git diff --submodule=log",
        ],
        late: &[
            "git submodule foreach --recursive 'git status --porcelain=v2 --branch'",
            "printf x > vendor/lib/new; mkdir vendor/lib/ipc; printf x > vendor/lib/ipc/own; git status --porcelain=v2",
            "git -C vendor/lib status --porcelain=v2 -uall; git -C vendor/lib clean -n -d",
            "git -C vendor/lib add -A; git -C vendor/lib commit -qm 'The library has an ipc folder'; git add -A; git commit -qm 'Follow'",
            "git checkout -q main; git submodule update; git submodule status --recursive; git checkout -q work",
            "git submodule update; git submodule status --recursive",
        ],
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}

#[test]
fn a_repository_with_worktrees_is_worked_on_as_without_aigo() {
    let recipe = Recipe {
        build: r#"
git worktree add --quiet -b feature .worktrees/feature
git worktree add --quiet --detach .worktrees/detached
"#,
        early: &[
            "git worktree list --porcelain",
            "printf 'a feature: WORD\\n' > .worktrees/feature/feature.txt; git -C .worktrees/feature add -A",
            "git -C .worktrees/feature commit -qm 'Add a feature'; git -C .worktrees/feature status --porcelain=v2 --branch",
        ],
        late: &[
            "printf x > .worktrees/feature/loose; git -C .worktrees/feature stash -u; git -C .worktrees/feature stash pop",
            "git -C .worktrees/feature clean -fdx",
            "git worktree add .worktrees/second -b second; printf s > .worktrees/second/s; git -C .worktrees/second add -A",
            "git -C .worktrees/second commit -qm 'A second'; git worktree remove .worktrees/second; git worktree prune --verbose",
            "git -C .worktrees/feature rebase work; git merge --no-edit feature",
            "git worktree lock --reason 'in use' .worktrees/detached; git worktree list",
        ],
        ..Recipe::USUAL
    };
    compare(&recipe, |_| ());
}
