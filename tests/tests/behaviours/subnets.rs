//! The networks of sessions cover no route of the host, in whatever table it is.

use std::net::Ipv4Addr;

use supervisor::engine::Ipv4Net;
use supervisor::session::event::{HostEvent, LaunchStep};
use tests::dockerd::IMAGE;
use tests::{Dockerd, Expect, Finished, Home, look};

/// The kernel's main table, and one that somebody's rules lead to.
const MAIN: u8 = 254;
const OTHER: u8 = 100;

fn subnet_of(run: &Finished) -> Ipv4Net {
    let mut subnets = run.events.iter().filter_map(|event| match look::host(event)? {
        HostEvent::LaunchStep { step: LaunchStep::Network, detail } => detail.as_ref()?.parse().ok(),
        _ => None,
    });
    subnets.next_back().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

#[test]
fn a_sessions_network_covers_no_route_of_the_host() {
    let Some(engine) = Dockerd::start(false) else { return };
    let home = Home::beside(&engine);
    let session = || home.command("true").flags(["--image", IMAGE]);

    // Three quarters of the engine's own pool, 10.214.0.0/16: it would take the first addresses by itself.
    engine.add_route(Ipv4Addr::new(10, 214, 0, 0), 17, MAIN);
    engine.add_route(Ipv4Addr::new(10, 214, 128, 0), 18, OTHER);
    for _ in 0..3 {
        let subnet = subnet_of(&session().finish().expect(Expect::FINISHED));
        assert!(net("10.214.192.0/18").overlaps(subnet), "{subnet}");
    }

    // The whole pool, and more: the ranges that aigo has besides.
    engine.add_route(Ipv4Addr::new(10, 0, 0, 0), 8, OTHER);
    let subnet = subnet_of(&session().finish().expect(Expect::FINISHED));
    assert!(net("172.30.0.0/15").overlaps(subnet), "{subnet}");

    // All of those, too: what is told says what was looked through, and how to go on.
    engine.add_route(Ipv4Addr::new(172, 16, 0, 0), 12, MAIN);
    engine.add_route(Ipv4Addr::new(192, 168, 0, 0), 16, MAIN);
    let refused = session().finish();
    let detail = refused.detail();
    for part in ["10.214.0.0/16", "10.201.0.0/16", "routes of this host", "network prune", "AIGO_ENGINE_SUBNETS="] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert_eq!(refused.ended().1.reason.word(), "engine_error");
    let named = session().env("AIGO_ENGINE_SUBNETS", "198.18.0.0/15").finish().expect(Expect::FINISHED);
    assert!(net("198.18.0.0/15").overlaps(subnet_of(&named)));
    session().env("AIGO_ENGINE_SUBNETS", "fd00::/8").finish().expect_refusal(3, "AIGO_ENGINE_SUBNETS");
}

#[test]
fn launches_at_once_share_a_small_range() {
    let Some(engine) = Dockerd::start(false) else { return };
    let homes: Vec<Home> = (0..4).map(|_| Home::beside(&engine)).collect();
    let runs: Vec<_> = homes
        .iter()
        .map(|home| {
            let session = home.command("while [ ! -e go ]; do sleep 0.1; done").flags(["--image", IMAGE]);
            session.env("AIGO_ENGINE_SUBNETS", "10.77.0.0/26").start()
        })
        .collect();
    for run in &runs {
        run.wait_for("the start", |event| {
            matches!(look::host(event), Some(HostEvent::LaunchStep { step: LaunchStep::Start, .. }))
        });
    }
    let fifth = homes[0].command("true").flags(["--image", IMAGE]).env("AIGO_ENGINE_SUBNETS", "10.77.0.0/26").finish();
    assert!(fifth.detail().contains("no free IPv4 subnet"), "{fifth:?}");
    homes.iter().for_each(|home| drop(home.put("go", "")));
    let mut subnets: Vec<Ipv4Net> =
        runs.into_iter().map(|run| subnet_of(&run.finish().expect(Expect::FINISHED))).collect();
    subnets.sort();
    assert_eq!(subnets, ["10.77.0.0/28", "10.77.0.16/28", "10.77.0.32/28", "10.77.0.48/28"].map(net));
}
