//! What a real engine does only on a bad day, played by a stand-in.

use futures_util::StreamExt;

use super::stand_in::{Answer, StandIn, VERSION, stand_in};
use super::*;

const OVERLAP: Answer = Answer::Status(403, r#"{"message":"Pool overlaps with other one on this address space"}"#);

async fn engine(answers: Vec<Answer>) -> (DockerEngine, StandIn) {
    let stand_in = stand_in([vec![VERSION], answers].concat());
    (DockerEngine::connect(stand_in.endpoint.clone(), None, &HostEnv::default()).await.unwrap(), stand_in)
}

#[tokio::test]
async fn a_subnet_is_chosen_out_of_the_engines_pools_and_another_one_if_it_is_taken() {
    let info = r#"{"DefaultAddressPools":[{"Base":"198.51.100.0/24","Size":26},{"Base":"fd00::/8","Size":64}]}"#;
    let listed = r#"[{"Name":"other","Id":"1","IPAM":{"Config":[{"Subnet":"198.51.100.0/26"}]}}]"#;
    let created = Answer::Status(201, r#"{"Id":"0a","Warning":""}"#);
    let seen = r#"{"Name":"n","Id":"0a","IPAM":{"Config":[{"Subnet":"198.51.100.64/28"}]}}"#;
    let answers = vec![
        Answer::Status(200, info),
        OVERLAP,
        Answer::Status(200, listed),
        OVERLAP,
        created,
        Answer::Status(200, seen),
    ];
    let (engine, stand_in) = engine(answers).await;
    let spec = NetworkSpec { name: "n".into(), ..NetworkSpec::default() };
    let network = engine.create_network(&spec).await.unwrap();
    assert_eq!(network.gateway.to_string(), "198.51.100.65");
    let requests = stand_in.requests.await.unwrap();
    assert_eq!(
        requests[1..],
        [
            "GET /v1.45/info",
            "POST /v1.45/networks/create",
            "GET /v1.45/networks",
            "POST /v1.45/networks/create",
            "POST /v1.45/networks/create",
            "GET /v1.45/networks/0a"
        ]
    );
}

#[tokio::test]
async fn subnets_that_somebody_named_are_the_only_ones() {
    let env = |subnets: &str| HostEnv { subnets: Some(subnets.to_owned()), ..HostEnv::default() };
    let stand_in = stand_in(vec![VERSION, OVERLAP, Answer::Status(200, "[]"), OVERLAP]);
    let engine = DockerEngine::connect(stand_in.endpoint.clone(), None, &env("198.51.100.16/28")).await.unwrap();
    let spec = NetworkSpec { name: "n".into(), ..NetworkSpec::default() };
    let error = engine.create_network(&spec).await.unwrap_err().to_string();
    assert!(error.contains("198.51.100.16/28") && error.contains("network prune"), "{error}");
    let error = DockerEngine::connect(stand_in.endpoint, None, &env("10.0.0.0")).await.unwrap_err().to_string();
    assert!(error.contains("AIGO_ENGINE_SUBNETS") && error.contains("10.0.0.0"), "{error}");
}

#[tokio::test]
async fn a_chosen_subnet_is_not_replaced() {
    let (engine, _stand_in) = engine(vec![OVERLAP]).await;
    let spec = NetworkSpec { name: "n".into(), subnet: "10.1.0.0/24".parse().ok(), ..NetworkSpec::default() };
    assert!(matches!(engine.create_network(&spec).await, Err(EngineError::SubnetTaken { .. })));
}

#[tokio::test]
async fn a_wait_survives_a_cut_connection() {
    let running = r#"{"Id":"0a","State":{"Status":"running","Pid":1}}"#;
    let exited =
        r#"{"Id":"0a","State":{"Status":"exited","ExitCode":5,"OOMKilled":true,"FinishedAt":"2026-01-02T03:04:05Z"}}"#;
    let (engine, stand_in) = engine(vec![
        Answer::Cut(""),
        Answer::Status(200, running),
        Answer::Cut(""),
        // The end came while nobody was connected.
        Answer::Status(200, exited),
    ])
    .await;
    let end = engine.wait(&ContainerId("0a".into())).await.unwrap();
    assert!(end.code == 5 && end.oom_killed);
    let requests = stand_in.requests.await.unwrap();
    assert!(requests[1].starts_with("POST /v1.45/containers/0a/wait?condition=not-running"), "{requests:?}");
    assert_eq!(requests[4], "GET /v1.45/containers/0a/json");
}

/// What Podman 5 says of a container that ran when its machine was switched off: with time to write down the end, and without.
#[tokio::test]
async fn a_code_that_the_engine_does_not_know_is_no_success() {
    let unknown =
        r#"{"StatusCode":0,"Error":{"Message":"getting exit code of container 0a from DB: no such exit code"}}"#;
    let seen = r#"{"Id":"0a","State":{"Status":"exited","ExitCode":143,"FinishedAt":"2026-01-02T03:04:05Z"}}"#;
    let unseen = r#"{"Id":"0a","State":{"Status":"exited","ExitCode":0,"FinishedAt":"0001-01-01T00:00:00Z"}}"#;
    for (inspected, code) in [(seen, 143), (unseen, ExitInfo::NOBODY_SAW)] {
        let (engine, _stand_in) = engine(vec![Answer::Status(200, unknown), Answer::Status(200, inspected)]).await;
        assert_eq!(engine.wait(&ContainerId("0a".into())).await.unwrap().code, code);
    }
    let known = Answer::Status(200, r#"{"StatusCode":0,"Error":{"Message":""}}"#);
    let (without_words, _stand_in) = engine(vec![known, Answer::Status(200, unseen)]).await;
    assert_eq!(without_words.wait(&ContainerId("0a".into())).await.unwrap().code, 0);
    let (engine, _stand_in) = engine(vec![Answer::Cut(""), Answer::Status(200, unseen)]).await;
    assert_eq!(engine.wait(&ContainerId("0a".into())).await.unwrap().code, ExitInfo::NOBODY_SAW);
}

#[tokio::test]
async fn a_code_that_was_told_is_not_lost_with_the_inspection() {
    let told = Answer::Status(200, r#"{"StatusCode":7}"#);
    let failed = Answer::Status(500, r#"{"message":"something broke"}"#);
    // Without an answer the stand-in is gone: the engine went away after it had told the code.
    for answers in [vec![told, failed], vec![told]] {
        let (engine, _stand_in) = engine(answers).await;
        assert_eq!(engine.wait(&ContainerId("0a".into())).await.unwrap().code, 7);
    }
}

#[tokio::test]
async fn a_wait_for_what_is_gone_ends() {
    let gone = Answer::Status(404, r#"{"message":"No such container: 0a"}"#);
    let (engine, _stand_in) = engine(vec![Answer::Cut(""), gone]).await;
    assert!(matches!(engine.wait(&ContainerId("0a".into())).await, Err(EngineError::NotFound { .. })));
}

#[tokio::test]
async fn an_event_stream_ends_with_an_error() {
    let die = concat!(
        r#"{"Type":"container","Action":"die","Actor":{"ID":"0a","Attributes":{"exitCode":"137","image":"i","a":"b"}},"#,
        r#""time":1700000000,"timeNano":1700000000000000001}"#,
        "\n"
    );
    let (engine, stand_in) = engine(vec![Answer::Cut(die)]).await;
    let mut events = engine.events(&Labels::from([("a".into(), "b".into())])).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(event.kind, crate::engine::EventKind::Die { exit_code: 137 });
    assert_eq!(event.labels, Labels::from([("a".into(), "b".into())]));
    assert!(events.next().await.unwrap().unwrap_err().engine_away());
    assert!(events.next().await.is_none());
    let requests = stand_in.requests.await.unwrap();
    assert!(requests[1].starts_with("GET /v1.45/events?"), "{requests:?}");
}

#[tokio::test]
async fn nonsense_is_called_nonsense() {
    let (engine, _stand_in) = engine(vec![Answer::Status(200, "{}"), Answer::Status(200, "[")]).await;
    let id = ContainerId("0a".into());
    assert!(matches!(engine.inspect(&id).await, Err(EngineError::Malformed { .. })));
    assert!(engine.inspect(&id).await.is_err());
}
