//! The runner's heartbeat, as far as it can be believed: that it changes, by our own clock, and nothing else. What it says is
//! the container's word, and its clock is not ours.

use ipc_protocol::host::HostIpc;
use ipc_protocol::status::Status;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    last: Option<Status>,
}

impl Heartbeat {
    /// Whether there is another heartbeat than at the last call. One that cannot be read is none.
    pub(super) fn has_changed(&mut self, ipc: &HostIpc) -> bool {
        match ipc.status() {
            Ok(Some(status)) if self.last.as_ref() != Some(&status) => {
                self.last = Some(status);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::host::HostDirs;
    use ipc_protocol::runner::RunnerIpc;
    use ipc_protocol::status::RunnerState;

    use super::*;

    #[test]
    fn only_a_new_heartbeat_is_a_sign_of_life() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = HostDirs::below(temp.path());
        let ipc = HostIpc::create(&dirs, None).unwrap();
        let mut heartbeat = Heartbeat::default();
        assert!(!heartbeat.has_changed(&ipc), "there is none yet");
        let writer = RunnerIpc::open(&dirs.mailbox, &dirs.record).unwrap().status();
        let mut status = Status {
            version: 1,
            runner_version: "test".into(),
            state: RunnerState::Idle,
            at: 5,
            last_seq: 0,
            segment: 1,
        };
        writer.write(&status).unwrap();
        assert!(heartbeat.has_changed(&ipc));
        assert!(!heartbeat.has_changed(&ipc));
        // A clock in the container that goes back is one that goes.
        status.at = 4;
        writer.write(&status).unwrap();
        assert!(heartbeat.has_changed(&ipc));
        let file = dirs.record.join("status.json");
        // A newer runner's, with words and fields that are not known here.
        let newer = r#"{"version":9,"runnerVersion":"9","state":"dreaming","at":9,"lastSeq":1,"segment":1,"more":[1]}"#;
        std::fs::write(&file, newer).unwrap();
        assert!(heartbeat.has_changed(&ipc), "a newer runner");
        for (plant, what) in [("{}", "wrong"), (&"x".repeat(100_000), "too large")] {
            std::fs::write(&file, plant).unwrap();
            assert!(!heartbeat.has_changed(&ipc), "{what}");
        }
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(!heartbeat.has_changed(&ipc), "a link");
    }
}
