//! `aigo` at a terminal: a pseudo-terminal (pty(7)) whose other end is the test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::Pid;

use crate::host::{PATIENCE, wait_until};
use crate::run::Builder;

/// What Ctrl-C sends: the terminal turns it into SIGINT (termios(3), VINTR).
const CTRL_C: &[u8] = b"\x03";
/// What Ctrl-D sends: the end of the input (termios(3), VEOF).
const CTRL_D: &[u8] = b"\x04";
/// Milliseconds between two looks whether the terminal was closed.
const LOOK: u8 = 20;

/// A terminal with `aigo` in its foreground.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: Option<File>,
    screen: Arc<Mutex<Vec<u8>>>,
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts `aigo run` with the transcript as output.
    ///
    /// # Panics
    /// If there is no terminal to be had.
    pub fn open(run: Builder<'_>) -> Self {
        // setsid(1) makes the terminal the one that controls the new session, and keeps the process id.
        let run = run.output("text").through(["setsid", "--ctty"]);
        Self::start(run.as_command())
    }

    /// The same as a background job of a shell with job control, on a terminal where such jobs may not write either.
    ///
    /// # Panics
    /// If there is no terminal to be had.
    pub fn open_in_the_background(run: Builder<'_>) -> Self {
        let job = r#"stty tostop; "$@" & wait $!"#;
        let run = run.output("text").through(["setsid", "--ctty", "bash", "-mc", job, "bash"]);
        Self::start(run.as_command())
    }

    fn start(mut command: Command) -> Self {
        // Not openpty(3): its descriptors would be inherited by programs, and a terminal that aigo itself holds open
        // cannot be closed.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pseudo-terminal");
        grantpt(&master).expect("our own terminal");
        unlockpt(&master).expect("our own terminal");
        let path = ptsname_r(&master).expect("our own terminal");
        let slave = || {
            File::options()
                .read(true)
                .write(true)
                .custom_flags(OFlag::O_NOCTTY.bits())
                .open(&path)
                .expect("our terminal")
        };
        command.stdin(slave()).stdout(slave()).stderr(slave()).env("TERM", "xterm");
        let child = command.spawn().expect("aigo can be started");
        drop(command);
        let keyboard = File::from(OwnedFd::from(master));
        let mut display = keyboard.try_clone().expect("a descriptor");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&screen);
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while !is_closed.load(Ordering::SeqCst) {
                let mut wanted = [PollFd::new(display.as_fd(), PollFlags::POLLIN)];
                if !matches!(poll(&mut wanted, LOOK), Ok(1..)) {
                    continue;
                }
                // EIO when the last process on the other side is gone.
                let Ok(count @ 1..) = display.read(&mut piece) else { return };
                seen.lock().expect("no holder panics").extend_from_slice(&piece[..count]);
            }
        });
        Self { child, keyboard: Some(keyboard), screen, closed, reader: Some(reader) }
    }

    /// Everything that was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no holder panics")).into_owned()
    }

    /// Waits until this is shown.
    ///
    /// # Panics
    /// After [`PATIENCE`], with what is shown.
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < deadline, "waited in vain for `{text}`; shown is:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Presses Ctrl-C.
    pub fn ctrl_c(&mut self) {
        self.press(CTRL_C);
    }

    /// Presses Ctrl-D.
    pub fn ctrl_d(&mut self) {
        self.press(CTRL_D);
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.press(format!("{line}\n").as_bytes());
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.as_mut().expect("the terminal is open").write_all(keys).expect("the terminal takes keys");
    }

    /// aigo's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Closes the terminal as its window's close button does: its processes get SIGHUP, as the last descriptor of the
    /// test's side goes. What would be shown afterwards is lost. How aigo ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn close(mut self) -> ExitStatus {
        self.closed.store(true, Ordering::SeqCst);
        self.join();
        self.wait()
    }

    /// Waits for the end of aigo: how it ended, and everything that was shown.
    ///
    /// # Panics
    /// If it does not end.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let status = self.wait();
        self.join();
        (status, self.shown())
    }

    fn join(&mut self) {
        self.keyboard = None;
        self.reader.take().expect("joined once").join().expect("the reader does not panic");
    }

    fn wait(&mut self) -> ExitStatus {
        wait_until("the end of aigo at the terminal", || self.child.try_wait().expect("it is our child"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After its end this does nothing; in a test that fails it leaves no process behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.closed.store(true, Ordering::SeqCst);
    }
}
