//! A Docker engine of a test's own: it may be stopped, killed and started anew without disturbing the machine's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::engine::{self, docker, docker_at};
use crate::host::wait_until;

/// `none` means that no second engine can be started here (it takes root and `dockerd`), and that this is known.
pub const VARIABLE: &str = "AIGO_TEST_DOCKERD";

/// What its sessions run in: the agent image is a gigabyte, which would have to be copied.
pub const IMAGE: &str = "aigo-test-runner:latest";

const BASE: &str = "debian:trixie-slim";
const RUNNER: &str = "/usr/local/bin/aigo-runner";

/// The engine; it ends with this value, with all that it ran.
#[derive(Debug)]
pub struct Dockerd {
    root: TempDir,
    live_restore: bool,
    child: Option<Child>,
}

impl Dockerd {
    /// A fresh one that has [`IMAGE`], if such tests are wanted here. With `live_restore` its containers run on while it is
    /// away, as with the key `live-restore` of its configuration.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(live_restore: bool) -> Option<Self> {
        if !engine::is_wanted() {
            return None;
        }
        if std::env::var(VARIABLE).is_ok_and(|value| value == "none") {
            println!("not run: {VARIABLE}=none, and this behaviour needs a Docker engine of its own");
            return None;
        }
        let root = tempfile::Builder::new().prefix("aigo-dockerd-").tempdir().expect("a temporary directory");
        let mut engine = Self { root, live_restore, child: None };
        engine.restart();
        engine.fetch_image();
        Some(engine)
    }

    /// Its address, as in `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.root.path().join("docker.sock").display())
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// If it does not; its log is in the message.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let at = |name: &str| self.root.path().join(name);
        let log = File::options().append(true).create(true).open(self.log()).expect("a log in our own folder");
        // In a network of its own: a second dockerd removes the bridge of the machine's engine (`docker0`) when it starts,
        // and none of that one's containers starts on its default network any more.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        command.arg("--host").arg(self.address());
        command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        // Its sessions have no model, so that nobody has to reach them there.
        command.args(["--log-level", "warn", "--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--default-address-pool", "base=10.214.0.0/16,size=24"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")).env_remove("DOCKER_HOST");
        let errors = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.expect("dockerd can be started; AIGO_TEST_DOCKERD=none leaves these tests out"));
        let address = self.address();
        let answers = || docker_at(Some(&address), &["version", "--format", "{{.Server.Version}}"]).ok();
        let ended =
            |child: &mut Option<Child>| child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        wait_until("dockerd", || (answers().is_some() || ended(&mut self.child)).then_some(()));
        assert!(answers().is_some(), "dockerd ended: {}", fs::read_to_string(self.log()).unwrap_or_default());
    }

    /// SIGKILL: nobody has time to stop a container.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().and_then(|()| child.wait()).expect("our own child");
    }

    /// SIGTERM, and waits for the end: it stops its containers, unless it restores them live.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("our own child");
        wait_until("the end of dockerd", || child.try_wait().ok().flatten());
    }

    fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    fn fetch_image(&self) {
        let context = self.root.path().join("context");
        fs::create_dir(&context).expect("a folder in our own");
        let base = self.root.path().join("base.tar");
        let file = |path: &Path| path.to_str().expect("temporary folders have plain names").to_owned();
        let address = self.address();
        let own = |arguments: &[&str]| docker_at(Some(&address), arguments).expect("the new engine does as it is told");
        let machine = |arguments: &[&str]| docker(arguments).expect("the machine's engine has the images");
        machine(&["save", "--output", &file(&base), BASE]);
        own(&["load", "--input", &file(&base)]);
        fs::remove_file(&base).expect("our own file");
        let source = machine(&["create", &engine::image()]);
        let copied = docker(&["cp", &format!("{source}:{RUNNER}"), &file(&context)]);
        machine(&["rm", "--force", &source]);
        copied.expect("the agent image has a runner");
        let recipe = format!("FROM {BASE}\nCOPY aigo-runner {RUNNER}\nENTRYPOINT [\"{RUNNER}\"]\nWORKDIR /workspace\n");
        fs::write(context.join("Dockerfile"), recipe).expect("a file in our own folder");
        own(&["build", "--quiet", "--tag", IMAGE, &file(&context)]);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if !self.runs() {
            if std::thread::panicking() {
                eprintln!("the log of dockerd: {}", fs::read_to_string(self.log()).unwrap_or_default());
                return;
            }
            // What still runs of it, only it can end.
            self.child = None;
            self.restart();
        }
        let all = docker_at(Some(&self.address()), &["ps", "--all", "--quiet"]).unwrap_or_default();
        for id in all.lines() {
            // It may have ended meanwhile.
            let _ = docker_at(Some(&self.address()), &["rm", "--force", "--volumes", id]);
        }
        self.stop();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = self.root.path().to_string_lossy().into_owned();
        // The latest first: one may be in another.
        for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&root)) {
            // Without it the folder stays, which the next line of the test's output would tell.
            let _ = umount2(place, MntFlags::MNT_DETACH);
        }
    }
}
