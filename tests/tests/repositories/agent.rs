//! The scripted agent: the commands, and how they are written down so that two runs can be compared.

/// What both runs begin with. Dates, names and the absence of an editor make the ids of commits the same in each run.
const PROLOGUE: &str = r#"
export LC_ALL=C.UTF-8 GIT_EDITOR=true GIT_PAGER=cat GIT_TERMINAL_PROMPT=0 PYTHONDONTWRITEBYTECODE=
export GIT_AUTHOR_NAME=Agent GIT_AUTHOR_EMAIL=agent@example.org GIT_AUTHOR_DATE='1700000000 +0100'
export GIT_COMMITTER_NAME=Agent GIT_COMMITTER_EMAIL=agent@example.org GIT_COMMITTER_DATE='1700000000 +0100'
# One command, as a call of a Bash tool, with its output and its exit code.
step() {
    printf '%s\n' "$STEP $1"
    out=$(sh -c "$1" 2>&1 </dev/null; printf '%s' "[exit $?]")
    printf '%s\n' "$out"
}
"#;

/// How the line begins that names a command.
pub(crate) const STEP: &str = "::";

/// The common beginning of all repositories: a small program with its test, in one commit.
const START: &str = r#"
git init --quiet --initial-branch main
git config gc.auto 0
git config commit.gpgsign false
printf '%s\n' '*.log' '/out/' '__pycache__/' '/.venv/' '/node_modules/' '/.worktrees/' > .gitignore
printf '%s\n' 'A project.' 'WORD is a word that it uses.' > README.md
mkdir -p src tests docs
printf '%s\n' 'greet() { printf "hello, %s: WORD\n" "$1"; }' > src/greet.sh
printf '%s\n' '. ./src/greet.sh' 'case "$(greet you)" in "hello, you: "*) echo passed ;; *) echo failed; exit 1 ;; esac' > tests/run.sh
for i in 1 2 3; do printf 'Page %s tells of WORD.\n' "$i" > "docs/page $i.md"; done
git add --all
git commit --quiet --message 'The start'
"#;

/// What the agent does in every repository, before and after the steps of the repository's own.
const FIRST: [&str; 4] = [
    "git status --porcelain=v2 --branch --ignored",
    "git switch -c work",
    "printf 'more about WORD\\n' >> README.md; printf 'echo new\\n' > src/new.sh; chmod +x src/new.sh",
    "sh tests/run.sh",
];
const WORK: [&str; 13] = [
    "git add -A; git commit -qm 'Add a script'; git log -1 --format='%H %T'",
    "printf 'to be stashed\\n' >> README.md; printf 'not tracked\\n' > scratch.txt; mkdir -p scratch/deep; printf x > scratch/deep/file",
    "git stash -u",
    "git status --porcelain=v2",
    "git stash list; git stash show --include-untracked --stat stash@{0}",
    "git stash pop",
    "git add -A; git commit -qm 'Keep what was stashed'",
    "printf x > leftover.txt; mkdir -p leftovers/deep; touch leftovers/deep/a; printf x > build.log; mkdir out; printf x > out/a.o",
    "git clean -nd",
    "git clean -fd",
    "git status --porcelain=v2 --ignored",
    "{CLEAN}",
    "git status --porcelain=v2 --ignored",
];
const LAST: [&str; 19] = [
    // As it was reported, `.git` included. Names with blanks make it fail for their files, in both runs.
    "grep -rl WORD . | sort | xargs sed -i s/WORD/TERM/g",
    "git status --porcelain=v2",
    "grep -rlZ WORD . | sort -z | xargs -0 -r sed -i s/WORD/TERM/g",
    "git status --porcelain=v2",
    "git add -A; git commit -m 'Replace a word' | sort",
    "git switch main; printf 'main has this line\\n' >> README.md; git commit -qam 'Add a line'; git switch work",
    "git rebase main",
    "git status --porcelain=v2; git diff",
    "for i in 1 2 3 4 5; do [ -d .git/rebase-merge ] || break; echo \"resolved $i\" > README.md; git add -A; git rebase --continue; done",
    "git log --graph --format='%h %s' --all",
    "printf 'for later\\n' >> README.md; git stash push -qm later; git stash list",
    "git mv src/new.sh src/renamed.sh; git rm -q 'docs/page 1.md'; ln -s README.md link; chmod +x tests/run.sh; git add -A; git commit -qm 'Move'",
    "printf 'dirty\\n' >> src/greet.sh; printf 'left\\n' > left.txt; git add left.txt; printf 'more\\n' >> left.txt; printf x > left.log",
    "sh tests/run.sh",
    "git fsck --full --strict",
    "git status --porcelain=v2 --ignored --branch --show-stash",
    "git ls-files -s | sha256sum; git ls-files | wc -l",
    "git rev-parse HEAD 'HEAD^{tree}' main 'stash@{0}'; git reflog --all",
    "git branch --all --verbose; git worktree list",
];

/// A repository, and what the agent does in it beside the work that is common to all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// A script that goes on after [`START`].
    pub(crate) build: &'static str,
    /// The agent's own steps in the clean tree, before the common work.
    pub(crate) early: &'static [&'static str],
    /// The agent's own steps after the common work.
    pub(crate) late: &'static [&'static str],
    /// The thorough way to clean up.
    pub(crate) clean: &'static str,
    /// Folders of the project with the names of our mount points.
    pub(crate) owns: &'static [&'static str],
}

impl Recipe {
    /// A recipe with the usual ways, to be changed where a repository needs it.
    pub(crate) const USUAL: Self = Self { build: "", early: &[], late: &[], clean: "git clean -fdx", owns: &[] };

    /// The script that makes the repository in the working directory.
    pub(crate) fn build_script(&self) -> String {
        format!(
            "set -eu\n{PROLOGUE}{START}{}\ngit add --all\ngit commit --quiet --allow-empty --message 'The rest'\n",
            self.build
        )
    }

    /// The agent's script.
    pub(crate) fn work_script(&self) -> String {
        let common = |steps: &'static [&'static str]| steps.iter().copied();
        let steps = common(&FIRST)
            .chain(common(self.early))
            .chain(common(&WORK))
            .chain(common(self.late))
            .chain(common(&LAST))
            .map(|step| step.replace("{CLEAN}", self.clean));
        let mut script = format!("STEP='{STEP}'\n{PROLOGUE}");
        steps.for_each(|step| script.push_str(&call(&step)));
        script
    }
}

/// The call of a step: the command in single quotes.
fn call(command: &str) -> String {
    format!("step '{}'\n", command.replace('\'', r"'\''"))
}
