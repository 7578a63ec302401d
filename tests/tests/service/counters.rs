//! Counters of the service never fall, also not when retention forgets the sessions that they counted.

use tests::host::wait_until;
use tests::service::claude;
use tests::{Home, Script, Service};

/// The value of a counter for Prometheus.
fn counter(service: &Service, name: &str) -> f64 {
    let figures = service.get("//metrics");
    let line = figures.body.lines().find(|line| line.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {}", figures.body));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn tokens_stay_counted_after_retention_has_forgotten_the_session() {
    let Some(home) = Home::open() else { return };
    let service = Service::start(&home);
    let id = service.create(&claude(&home, "say it", &Script::new().say("done")));
    service.wait_for_end(&home, &id);
    let names = ["aigo_input_tokens_total", "aigo_output_tokens_total", "aigo_cost_usd_total"];
    let before = names.map(|name| counter(&service, name));
    assert!(before[0] > 0.0 && before[1] > 0.0, "{before:?}");
    assert!(service.stop().success());

    let config = home.write("config.toml", "[retention]\nmax-age = \"1ms\"\n");
    let service = Service::configured(&home, &config);
    // Looked at when a service starts, and then once a minute.
    wait_until("the session to be forgotten", || service.sessions().is_empty().then_some(()));
    assert_eq!(names.map(|name| counter(&service, name)), before);
    let json = service.get("/metrics").json();
    assert_eq!(json["inputTokens"].as_f64(), Some(before[0]), "{json}");
}
