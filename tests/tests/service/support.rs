//! What the tests of the service have in common.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tests::http::StreamEvent;
use tests::{Home, Service};

/// Older than everything that waits for a time to pass.
const LONG_AGO: Duration = Duration::from_secs(3600);

/// Daemons that an aged folder may need: one that sees the mark, one that finds it answered, one that removes the folder.
const DAEMONS: usize = 3;

/// The events of a session that has ended, as JSON: numbered without a gap, with one end, the last.
pub(crate) fn whole(events: &[StreamEvent]) -> Vec<Value> {
    let ids: Vec<u64> = events.iter().filter_map(|event| event.id).collect();
    let wanted: Vec<u64> = (1..).take(events.len()).collect();
    assert_eq!(ids, wanted, "the numbers have gaps: {events:#?}");
    let values: Vec<Value> = events.iter().map(|event| serde_json::from_str(&event.data).unwrap()).collect();
    let ends: Vec<usize> = (0..values.len()).filter(|&at| values[at]["kind"] == "ended").collect();
    assert_eq!(ends, [values.len() - 1], "one end, at the end: {values:#?}");
    values
}

/// What the agent said.
pub(crate) fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().filter(|event| event["kind"] == "text").filter_map(|event| event["text"].as_str()).collect()
}

/// Sees to it that nothing is left, now that no session lives: what waits for time to pass is made old, and looked at by
/// the daemons that would come by then.
pub(crate) fn nothing_is_left_in_time(home: &Home) {
    for _ in 0..DAEMONS {
        if home.leftovers().is_empty() {
            return;
        }
        for id in home.sessions() {
            let folder = home.data().join("sessions").join(id);
            for path in [folder.join("in-doubt"), folder] {
                // Only a session in doubt has a mark.
                if let Ok(file) = fs::File::open(&path) {
                    file.set_modified(SystemTime::now() - LONG_AGO).unwrap();
                }
            }
        }
        let service = Service::start(home);
        assert!(service.stop().success());
    }
    assert_eq!(home.leftovers(), [""; 0]);
}
