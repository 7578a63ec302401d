//! A socket between aigo and the engine that can be cut: an engine that goes away, without disturbing the real one.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Where Docker listens, unless `DOCKER_HOST` says otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The socket; passes everything on until it is cut.
#[derive(Debug)]
pub struct Wire {
    path: PathBuf,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    streams: Mutex<Vec<UnixStream>>,
}

impl Wire {
    /// A socket in `folder` that leads to the engine.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(folder: &Path) -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let engine = PathBuf::from(host.strip_prefix("unix://").unwrap_or(DEFAULT_SOCKET));
        let path = folder.join("engine.sock");
        let listener = UnixListener::bind(&path).expect("a socket in our own folder");
        // An ordinary user may run aigo; who may enter the test's folder may use the socket.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("our own socket");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.cut.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    // A pair that cannot be made looks like an engine that hangs up.
                    let _ = shared.join(client, &engine);
                }
            }
        });
        Self { path, state }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Cuts it: open connections break, new ones find nobody.
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
        // Wakes the listener, which then goes.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        for stream in self.state.streams.lock().expect("no holder panics").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn join(&self, client: UnixStream, engine: &Path) -> io::Result<()> {
        let engine = UnixStream::connect(engine)?;
        let mut streams = self.streams.lock().expect("no holder panics");
        streams.extend([client.try_clone()?, engine.try_clone()?]);
        pump(client.try_clone()?, engine.try_clone()?);
        pump(engine, client);
        Ok(())
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}
