//! A Docker engine of a test's own: it may be stopped, killed and started anew without disturbing the machine's.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::engine::{self, docker, docker_at};
use crate::host::wait_until;

/// `none` means that no second engine can be started here (it takes root and `dockerd`), and that this is known.
pub const VARIABLE: &str = "AIGO_TEST_DOCKERD";

/// What its sessions run in: the agent image is a gigabyte, which would have to be copied.
pub const IMAGE: &str = "aigo-test-runner:latest";

/// Where a user's range of ids is found, in `/etc`.
const SUBIDS: [&str; 2] = ["subuid", "subgid"];

const BASE: &str = "debian:trixie-slim";
const RUNNER: &str = "/usr/local/bin/aigo-runner";

/// The engine; it ends with this value, with all that it ran.
#[derive(Debug)]
pub struct Dockerd {
    root: TempDir,
    /// Flags of its own.
    flags: Vec<String>,
    child: Option<Child>,
}

impl Dockerd {
    /// A fresh one that has [`IMAGE`], if such tests are wanted here. With `live_restore` its containers run on while it is
    /// away, as with the key `live-restore` of its configuration.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(live_restore: bool) -> Option<Self> {
        let flags = if live_restore { vec!["--live-restore".to_owned()] } else { Vec::new() };
        let mut engine = Self::new(flags)?;
        engine.restart();
        engine.fetch_image();
        Some(engine)
    }

    /// A fresh one without an image that runs its containers as other users of the host (`userns-remap`), if such tests are
    /// wanted here.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn remapping() -> Option<Self> {
        let mut engine = Self::new(vec!["--userns-remap=nobody:nogroup".to_owned()])?;
        for name in SUBIDS {
            fs::write(engine.root.path().join(name), "nobody:700000:65536\nnogroup:700000:65536\n")
                .expect("a file in our own folder");
        }
        engine.restart();
        Some(engine)
    }

    fn new(flags: Vec<String>) -> Option<Self> {
        if !engine::is_wanted() {
            return None;
        }
        if std::env::var(VARIABLE).is_ok_and(|value| value == "none") {
            println!("not run: {VARIABLE}=none, and this behaviour needs a Docker engine of its own");
            return None;
        }
        let root = tempfile::Builder::new().prefix("aigo-dockerd-").tempdir().expect("a temporary directory");
        Some(Self { root, flags, child: None })
    }

    /// Its process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("it runs");
        Pid::from_raw(i32::try_from(child.id()).expect("pids are positive numbers of 31 bits"))
    }

    /// Adds a route to a table of its network namespace that leads nowhere (ip-route(8): `blackhole`).
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn add_route(&self, destination: Ipv4Addr, prefix: u8, table: u8) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).expect("it runs");
        // A thread of its own, which enters that namespace and ends there.
        let added = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            blackhole(destination, prefix, table)
        });
        added.join().expect("the thread does not panic").expect("entering namespaces and adding routes takes root");
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
        // `--userns-remap` asks these files for the range; the machine's own stay as they are.
        let remap = SUBIDS.map(|name| format!("[ ! -e {0} ] || mount --bind {0} /etc/{name}", at(name).display()));
        let script = format!("{}; {}; exec \"$@\"", remap[0], remap[1]);
        // In a network of its own: a second dockerd removes the bridge of the machine's engine (`docker0`) when it starts,
        // and none of that one's containers starts on its default network any more.
        let mut command = Command::new("unshare");
        command.arg("--net");
        if self.root.path().join(SUBIDS[0]).exists() {
            command.args(["--mount", "sh", "-ec", &script, "sh"]);
        }
        command.arg("dockerd");
        command.arg("--host").arg(self.address());
        command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
        // Its sessions have no model, so that nobody has to reach them there.
        command.args(["--log-level", "warn", "--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--default-address-pool", "base=10.214.0.0/16,size=24"]);
        command.args(&self.flags);
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

/// Asks the kernel by rtnetlink(7) for a route that leads nowhere, and so needs no device.
fn blackhole(destination: Ipv4Addr, prefix: u8, table: u8) -> nix::Result<()> {
    const NEW_ROUTE: u16 = 24;
    const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
    const STATIC: u8 = 4;
    const BLACKHOLE: u8 = 6;
    const DESTINATION: u16 = 1;
    let mut request = Vec::new();
    request.extend(36_u32.to_ne_bytes());
    request.extend(NEW_ROUTE.to_ne_bytes());
    request.extend(REQUEST_ACK_CREATE.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([AddressFamily::Inet as u8, prefix, 0, 0, table, STATIC, 0, BLACKHOLE, 0, 0, 0, 0]);
    request.extend(8_u16.to_ne_bytes());
    request.extend(DESTINATION.to_ne_bytes());
    request.extend(destination.octets());
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 64];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // An acknowledgement is an error of number 0, behind the header.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(Errno::from_raw(-error)),
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
