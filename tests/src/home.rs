//! A data directory and a workspace of one test, and the law that nothing is left of a session when it has ended.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Pid;
use supervisor::session::event::SessionEvent;
use tempfile::TempDir;

use crate::dockerd::Dockerd;
use crate::engine::{self, Kind, Podman, RootlessDocker};
use crate::host::unique;
use crate::run::Builder;
use crate::upstream::{KEY, Upstream};
use crate::user::Account;
use crate::{Script, binary};

/// Variables that would change what is tested.
const FOREIGN: [&str; 8] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "AIGO_CONFIG",
    "AIGO_DATA_DIR",
    "AIGO_ENGINE",
    "NO_COLOR",
];

/// Everything of one test; when it goes, nothing may be left of its sessions.
#[derive(Debug)]
pub struct Home {
    root: TempDir,
    /// Folders of the user's own that have the names of our mount points.
    keeps: Vec<&'static str>,
    podman: Option<Podman>,
    /// A process in whose network namespace aigo runs.
    inside: Option<Pid>,
    /// The address of an engine of the test's own.
    own: Option<String>,
    /// The user who runs aigo here; `None` for the user of the test itself.
    user: Option<Account>,
}

/// What a short-lived command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Home {
    /// A fresh one, if tests of the engine are wanted here (see [`engine::is_wanted`]).
    ///
    /// # Panics
    /// If there is no engine.
    pub fn open() -> Option<Self> {
        engine::is_wanted().then(Self::without_engine)
    }

    /// A fresh one whose sessions run on Podman, as its user, if tests of it are wanted here.
    ///
    /// # Panics
    /// If there is none.
    pub fn on_podman(podman: Podman) -> Option<Self> {
        podman.is_wanted().then(|| {
            let user = match podman {
                Podman::Rootful => None,
                Podman::Rootless => Some(Account::of_rootless_podman()),
            };
            let mut home = Self::of(user);
            home.podman = Some(podman);
            home
        })
    }

    /// A fresh one whose sessions run on a rootless Docker, as its user, if tests of it are wanted here.
    ///
    /// # Panics
    /// If there is none.
    pub fn on_rootless_docker() -> Option<Self> {
        RootlessDocker::is_wanted().then(|| {
            let mut home = Self::of(Some(Account::of_rootless_docker()));
            home.own = Some(RootlessDocker::ADDRESS.to_owned());
            home
        })
    }

    /// A fresh one whose sessions run on an engine of the test's own.
    ///
    /// # Panics
    /// If no temporary directory can be made.
    pub fn on(engine: &Dockerd) -> Self {
        // The engine's socket lies in a folder of root's.
        let mut home = Self::of(None);
        home.own = Some(engine.address());
        home
    }

    /// The same, with aigo in the engine's network namespace: the routes of that one are the host's for it.
    ///
    /// # Panics
    /// If no temporary directory can be made, or the engine does not run.
    pub fn beside(engine: &Dockerd) -> Self {
        let mut home = Self::on(engine);
        home.inside = Some(engine.pid());
        home
    }

    /// The engine's address, if it is not the machine's Docker.
    fn address(&self) -> Option<&str> {
        self.own.as_deref().or(self.podman.map(Podman::address))
    }

    /// The copy of aigo for another user.
    fn program(&self) -> PathBuf {
        self.root.path().join("aigo")
    }

    /// A fresh one for what needs no engine.
    ///
    /// # Panics
    /// If no temporary directory can be made.
    pub fn without_engine() -> Self {
        Self::of(Account::chosen())
    }

    /// A fresh one whose data directory and workspace belong to the user.
    fn of(user: Option<Account>) -> Self {
        let root = tempfile::Builder::new().prefix("aigo-test-").tempdir().expect("a temporary directory");
        let home = Self { root, keeps: Vec::new(), podman: None, user, inside: None, own: None };
        fs::create_dir(home.workspace()).expect("a fresh workspace");
        // Anybody may pass, as in a home folder: agents run as the workspace's owner.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(home.root.path(), open).expect("our own folder");
        if home.user.is_some() {
            // The user may not be able to reach the build's own folder. A second name costs nothing, but needs one disk.
            let linked = fs::hard_link(binary::aigo(), home.program());
            linked.or_else(|_| fs::copy(binary::aigo(), home.program()).map(drop)).expect("a copy of aigo");
        }
        home.give(home.root.path());
        home.give(&home.workspace());
        home
    }

    /// Gives a file or folder of the test to the user who runs aigo, as if this user had made it.
    fn give(&self, path: &Path) {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid), Some(user.gid))
                .expect("giving files away takes root, as which these tests run");
        }
    }

    /// The user id of the aigo processes of this test.
    pub fn uid(&self) -> u32 {
        self.user.as_ref().map_or_else(|| nix::unistd::Uid::current().as_raw(), |user| user.uid)
    }

    /// The workspace has a folder of its own with the name of one of our mount points, which must still be there at the end.
    #[must_use]
    pub fn keeping(mut self, name: &'static str) -> Self {
        self.keeps.push(name);
        self
    }

    /// The folder that holds everything; for files beside the workspace.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The user's folder.
    pub fn workspace(&self) -> PathBuf {
        self.root.path().join("workspace")
    }

    /// A path in the user's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.workspace().join(name)
    }

    /// aigo's data directory.
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Writes a file beside the workspace.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, content).expect("a file in our own folder");
        self.give(&path);
        path
    }

    /// Writes a file into the workspace, with the folders above it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folders in our own workspace");
        fs::write(&path, content).expect("a file in our own workspace");
        let workspace = self.workspace();
        path.ancestors().take_while(|made| *made != workspace).for_each(|made| self.give(made));
        path
    }

    /// Gives the workspace and what is in it to a user. Where an ordinary user runs aigo, the workspace stays theirs:
    /// aigo lets nobody but root work in the folder of another user.
    ///
    /// # Panics
    /// If this process may not (it takes root).
    pub fn give_workspace_to(&self, uid: u32) {
        let uid = if self.user.is_some() { self.uid() } else { uid };
        fn give(path: &Path, uid: u32) {
            chown(path, Some(uid), Some(uid)).expect("giving files away takes root, as which these tests run");
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                give(&entry.path(), uid);
            }
        }
        give(&self.workspace(), uid);
    }

    /// `aigo` with any arguments on this data directory, ready to be changed and started.
    pub fn aigo_command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = match (&self.user, self.inside) {
            (Some(user), _) => {
                let mut command = user.command(self.program());
                command.current_dir(self.root.path());
                command
            }
            (None, Some(pid)) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{pid}/ns/net")).arg(binary::aigo());
                command
            }
            (None, None) => Command::new(binary::aigo()),
        };
        command.args(arguments).env("AIGO_DATA_DIR", self.data()).stdin(Stdio::null());
        for name in FOREIGN.iter().filter(|name| **name != "AIGO_DATA_DIR") {
            command.env_remove(name);
        }
        if let Some(address) = &self.own {
            command.env("DOCKER_HOST", address);
        }
        match self.podman {
            None => {}
            Some(Podman::Rootful) => {
                command.env("AIGO_ENGINE", "podman").env("CONTAINER_HOST", Podman::Rootful.address());
            }
            // Found where it listens.
            Some(Podman::Rootless) => {
                command.env("AIGO_ENGINE", "podman").env_remove("CONTAINER_HOST");
            }
        }
        command
    }

    /// Runs `aigo` with any arguments to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn aigo(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
        let output = self.aigo_command(arguments).output().expect("aigo can be started");
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `aigo run` of a shell script as agent.
    pub fn command(&self, script: &str) -> Builder<'_> {
        Builder::new(self).flags(["--program", "command"]).after_dashes(["sh", "-c", script])
    }

    /// `aigo run` of the real Claude Code, whose model answers from a script.
    pub fn claude(&self, prompt: &str, script: &Script) -> Builder<'_> {
        let file = self.write(&unique("script"), script.text());
        Builder::new(self).flags(["--replay"]).flags([file]).prompt(prompt)
    }

    /// `aigo run` of the real Claude Code, whose model is `upstream`, with [`KEY`] as credential.
    pub fn live(&self, prompt: &str, upstream: &Upstream) -> Builder<'_> {
        let url = upstream.url("");
        Builder::new(self).prompt(prompt).env("ANTHROPIC_API_KEY", KEY).env("ANTHROPIC_BASE_URL", url)
    }

    /// The ids of sessions that have a folder.
    pub fn sessions(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data().join("sessions")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The events of a session as `aigo logs --json` tells them.
    ///
    /// # Panics
    /// If it tells none, or something else.
    pub fn logs(&self, session: &str) -> Vec<SessionEvent> {
        let said = self.aigo(["logs", "--json", session]);
        assert_eq!(said.code, Some(0), "aigo logs: {}", said.stderr);
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("one event on each line")).collect()
    }

    /// The name by which this data directory's objects are marked on the engine; `None` before the first session.
    pub fn instance(&self) -> Option<String> {
        let text = fs::read_to_string(self.data().join("instance")).ok()?;
        // What follows is where the folder is.
        text.lines().next().map(|name| name.trim().to_owned())
    }

    /// Containers of this test, running or not.
    pub fn containers(&self) -> Vec<String> {
        self.instance()
            .map(|instance| engine::objects_at(self.address(), Kind::Container, &instance))
            .unwrap_or_default()
    }

    /// What is left of sessions although none runs, in words.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(instance) = self.instance() {
            for kind in Kind::ALL {
                left.extend(
                    engine::objects_at(self.address(), kind, &instance).into_iter().map(|id| format!("{kind:?} {id}")),
                );
            }
        }
        left.extend(self.sessions().into_iter().map(|id| format!("session folder {id}")));
        for name in ["ipc", "extra"] {
            let found = fs::symlink_metadata(self.file(name)).is_ok();
            let wanted = self.keeps.contains(&name);
            if found != wanted {
                let how = if found { "left" } else { "gone" };
                left.push(format!("the folder `{name}` of the workspace is {how}"));
            }
        }
        left
    }

    /// The cgroups of this test's agents, those within others first, where aigo makes them itself: a service takes them
    /// away soon after an agent's last session, one that was killed leaves them to the next.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let Some(instance) = self.instance() else { return Vec::new() };
        let root = Path::new("/sys/fs/cgroup");
        let folders = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let hierarchies = std::iter::once(root.to_owned()).chain(folders(root));
        let ours = hierarchies.map(|hierarchy| hierarchy.join("aigo").join(&instance)).filter(|path| path.is_dir());
        ours.flat_map(|path| folders(&path).into_iter().chain([path])).collect()
    }

    fn clean_up(&self) {
        let Some(instance) = self.instance() else { return };
        for kind in Kind::ALL {
            for id in engine::objects_at(self.address(), kind, &instance) {
                if let Err(error) = engine::remove_at(self.address(), kind, &id) {
                    eprintln!("cleaning up: {error}");
                }
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = self.leftovers();
        if !left.is_empty() {
            self.clean_up();
        }
        for folder in self.cgroups() {
            // In use by what could not be removed, or gone meanwhile.
            let _ = fs::remove_dir(folder);
        }
        // A failed test has its own words; what is left then follows from it.
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}
