//! Sessions: what passes over them, how they end, begin again, and take each other's place.

use controller_conductor::{GatewayError, HostEvent, HostGateway};
use proto_model::catalogue::FaultKind;
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{AgentFact, Cleanliness, EndedBy, Injection, Wish};
use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, SampledBy, Tolerance};
use proto_wire::v1;
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::controller_message::Body as Order;
use tempfile::TempDir;
use tonic::Code;

use crate::agent::{Agent, Bare, hello, join};
use crate::controller::{Controller, SETTINGS, name};
use crate::eventually;

pub fn injection() -> Injection {
    Injection {
        id: InjectionId::generate(),
        step: "steps[0]".into(),
        host: name("web"),
        wish: Wish {
            fault: FaultKind::parse("cpu.burn").unwrap(),
            params: serde_json::json!({"percent": 60}),
            duration_ms: 30_000,
            seed: 7,
            beside: vec![],
            unattended: false,
        },
    }
}

pub async fn start(controller: &Controller, injection: &Injection, run: &RunId) -> Result<(), GatewayError> {
    let digest = PlanDigest::of(b"plan");
    controller.dispatcher.start(&name("web"), run, injection, &digest, 2_000).await
}

/// A controller, and a host's folder that has joined it as `web`.
pub async fn joined() -> (TempDir, TempDir, Controller) {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(1, 60_000).await;
    join(host.path(), controller.address, &token, "web").await.unwrap();
    (dir, host, controller)
}

fn end_of(id: &InjectionId, said: HostEvent) -> Option<AgentFact> {
    match said {
        HostEvent::Report { report, .. } if &report.injection == id && report.fact.is_terminal() => Some(report.fact),
        _ => None,
    }
}

fn lost(said: HostEvent) -> Option<()> {
    matches!(said, HostEvent::Lost { .. }).then_some(())
}

#[tokio::test]
async fn orders_arrive_and_answers_come_back() {
    let (_dir, host, mut controller) = joined().await;
    let agent = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    let (injection, run, web) = (injection(), RunId::generate(), name("web"));
    let wish = Wish {
        duration_ms: 1,
        ..injection.wish.clone()
    };
    let reply = controller.dispatcher.preflight(&web, vec![wish.clone(), wish]).await.unwrap();
    assert!(
        reply.answers.len() == 2 && reply.boot_id == "boot-1" && reply.kernel == "6.1",
        "{reply:?}"
    );
    start(&controller, &injection, &run).await.unwrap();
    controller.dispatcher.renew(&web, std::slice::from_ref(&injection.id), 2_000);
    controller.dispatcher.accept(&web, "ann", "looked").await.unwrap();
    eventually("the lease is renewed", || agent.was_told("renew 1 2000")).await;
    controller.dispatcher.stop(&web, &injection.id, EndedBy::Stop).await.unwrap();
    let end = controller.hears("the end", |said| end_of(&injection.id, said)).await;
    assert!(matches!(end, AgentFact::Undone(u) if u.ended_by == EndedBy::Stop));
    let proof = controller.dispatcher.verify(&web, vec![injection.id.clone()]).await.unwrap();
    assert_eq!(proof.result, Cleanliness::Clean);
    controller.dispatcher.settle(&web, std::slice::from_ref(&injection.id));
    eventually("settled", || agent.was_told("settle 1") && agent.was_told("accept ann looked")).await;
    assert_eq!(agent.script().controllers, [controller.address]);
    assert_eq!(controller.host("web").unwrap().facts.kernel, "6.1");
}

#[tokio::test]
async fn a_question_without_an_answer_ends_in_time() {
    let (_dir, host, controller) = joined().await;
    let _bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let error = controller.dispatcher.verify(&name("web"), vec![]).await.unwrap_err();
    // Silence ends the session before the question's own time is over.
    assert!(matches!(error, GatewayError::Lost(_) | GatewayError::Timeout { .. }), "{error}");
    let error = controller.dispatcher.verify(&name("nobody"), vec![]).await.unwrap_err();
    assert_eq!(error, GatewayError::Lost(name("nobody")));
}

#[tokio::test]
async fn a_host_is_lost_when_its_stream_ends_or_falls_silent() {
    let (_dir, host, mut controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let began = std::time::Instant::now();
    controller.hears("the silent host is lost", lost).await;
    assert!(began.elapsed().as_millis() >= u128::from(SETTINGS.heartbeat_ms * 3));
    while bare.order().await.is_ok_and(|order| order.is_some()) {}
    drop(bare);
    let bare = Bare::dial(host.path(), controller.address, hello("i", "m")).await.unwrap();
    drop(bare);
    controller.hears("the closed stream is a loss", lost).await;
}

#[tokio::test]
async fn an_agent_returns_to_a_restarted_controller_with_everything_it_owes() {
    let (dir, host, mut controller) = joined().await;
    let agent = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    let (held, ended, run) = (injection(), injection(), RunId::generate());
    for each in [&held, &ended] {
        controller.known.lock().unwrap().insert(each.id.clone());
        start(&controller, each, &run).await.unwrap();
    }
    // A stop overtakes what waits; here it is to come after its start.
    eventually("both act", || agent.script().active.len() == 2).await;
    controller.dispatcher.stop(&name("web"), &ended.id, EndedBy::Stop).await.unwrap();
    controller.hears("the end", |said| end_of(&ended.id, said)).await;
    // Killed before the end was settled; the successor knows neither.
    let address = controller.killed().await;
    let mut controller = Controller::start_with(dir.path(), SETTINGS, address).await;
    let inventory = controller
        .hears("the host returns", |said| match said {
            HostEvent::Returned { inventory, .. } => Some(inventory),
            _ => None,
        })
        .await;
    let finished = |id: &InjectionId| inventory.iter().find(|(known, ..)| known == id).map(|(_, _, finished)| *finished);
    assert_eq!((finished(&held.id), finished(&ended.id)), (Some(false), Some(true)));
    controller.hears("the end is told again", |said| end_of(&ended.id, said)).await;
    let stopped = format!("stop {} stop", held.id);
    eventually("the stranger is stopped", || agent.was_told(&stopped)).await;
    let starts = agent.script().told.iter().filter(|told| told.starts_with("start")).count();
    assert_eq!(starts, 2, "nothing is started again");
    controller.dispatcher.settle(&name("web"), &[held.id, ended.id]);
    eventually("nothing is owed", || agent.script().owed.is_empty()).await;
}

#[tokio::test]
async fn a_redial_of_the_same_agent_takes_over_without_a_loss() {
    let (_dir, host, mut controller) = joined().await;
    let mut old = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let new = Bare::dial(host.path(), controller.address, hello("i", "m")).await.unwrap();
    let ended = loop {
        match old.order().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Aborted);
    drop(new);
    let mut returned = 0;
    controller
        .hears("one loss, after two arrivals", |said| {
            returned += u32::from(matches!(said, HostEvent::Returned { .. }));
            lost(said)
        })
        .await;
    assert_eq!(returned, 2);
}

/// Answers pings and sends heartbeats until it is dropped.
fn lively(mut bare: Bare) -> (tokio::task::JoinHandle<()>, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let own = heard.clone();
    let task = tokio::spawn(async move {
        let mut beat = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            tokio::select! {
                _ = beat.tick() => bare.say(Body::Heartbeat(v1::Heartbeat { cleanliness: v1::Cleanliness::Clean.into(), ..v1::Heartbeat::default() })).await,
                order = bare.orders.message() => match order {
                    Ok(Some(order)) => match order.body {
                        Some(Order::Preflight(p)) => bare.say(Body::Preflight(v1::PreflightAnswer { request: p.request, ..v1::PreflightAnswer::default() })).await,
                        Some(Order::Stop(stop)) => own.lock().unwrap().push(stop.injection),
                        Some(Order::Halt(_)) => own.lock().unwrap().push("halt".into()),
                        _ => {}
                    },
                    _ => return,
                },
            }
        }
    });
    (task, heard)
}

#[tokio::test]
async fn a_clone_is_named_starts_nothing_and_still_hears_stops_and_halts() {
    let (_dir, host, controller) = joined().await;
    let (first, first_heard) = lively(Bare::dial(host.path(), controller.address, hello("one", "n")).await.unwrap());
    let (second, second_heard) = lively(Bare::dial(host.path(), controller.address, hello("two", "m")).await.unwrap());
    let web = controller.host("web").unwrap();
    let note = web.note.unwrap();
    assert!(note.contains("boot-of-one") && note.contains("boot-of-two"), "{note}");
    let refused = start(&controller, &injection(), &RunId::generate()).await.unwrap_err();
    assert!(
        matches!(&refused, GatewayError::OrderRefused { code, .. } if code == "clone"),
        "{refused}"
    );
    let id = InjectionId::generate();
    controller.dispatcher.stop(&name("web"), &id, EndedBy::Stop).await.unwrap();
    let state = controller.latch.get().engage("ann", "clone", crate::controller::now());
    controller.dispatcher.halt(state, 100).await;
    for heard in [&first_heard, &second_heard] {
        eventually("both hear both", || {
            let heard = heard.lock().unwrap();
            heard.contains(&id.to_string()) && heard.contains(&"halt".to_owned())
        })
        .await;
    }
    assert!(!first.is_finished() && !second.is_finished());
    second.abort();
    eventually("alone again", || controller.host("web").unwrap().note.is_none()).await;
    assert!(controller.is_connected("web"));
    first.abort();
}

#[tokio::test]
async fn a_silent_predecessor_is_replaced_by_another_process() {
    let (_dir, host, controller) = joined().await;
    let _silent = Bare::dial(host.path(), controller.address, hello("one", "n")).await.unwrap();
    let _new = Bare::dial(host.path(), controller.address, hello("two", "m")).await.unwrap();
    assert_eq!(controller.dispatcher.boot_id(&name("web")).as_deref(), Some("boot-of-two"));
    assert_eq!(controller.host("web").unwrap().note, None);
}

#[tokio::test]
async fn a_host_that_obeyed_a_later_store_is_not_given_faults() {
    let (_dir, host, controller) = joined().await;
    let late = v1::Hello {
        store_epoch: 1 << 60,
        ..hello("i", "n")
    };
    let _bare = Bare::dial(host.path(), controller.address, late).await.unwrap();
    let refused = start(&controller, &injection(), &RunId::generate()).await.unwrap_err().to_string();
    assert!(
        refused.contains("backup") && refused.contains(&(1_u64 << 60).to_string()),
        "{refused}"
    );
}

#[tokio::test]
async fn a_start_that_the_host_refuses_is_a_refusal_of_the_injection() {
    let (_dir, host, mut controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let injection = injection();
    start(&controller, &injection, &RunId::generate()).await.unwrap();
    let order_seq = loop {
        let order = bare.order().await.unwrap().unwrap();
        if matches!(order.body, Some(Order::Start(_))) {
            break order.seq;
        }
    };
    let refused = v1::OrderRefused {
        order_seq,
        message: "old".into(),
        why: v1::order_refused::Why::StaleHaltEpoch.into(),
    };
    bare.say(Body::Refused(refused)).await;
    let fact = controller.hears("a refusal", |said| end_of(&injection.id, said)).await;
    assert!(matches!(fact, AgentFact::Refused(r) if r.code == "stale_halt_epoch"));
}

#[tokio::test]
async fn a_session_begins_with_a_hello_in_time() {
    let (_dir, host, controller) = joined().await;
    for bad in [
        v1::Hello::default(),
        v1::Hello {
            facts: None,
            ..hello("i", "n")
        },
        v1::Hello {
            cleanliness: 99,
            ..hello("i", "n")
        },
        v1::Hello {
            catalogue_digest: "sha256:another".into(),
            ..hello("i", "n")
        },
    ] {
        let refused = Bare::dial(host.path(), controller.address, bad).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    let mut client = crate::agent::client(host.path(), controller.address).await;
    let mute = client.session(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(mute.code(), Code::DeadlineExceeded);
    assert!(!controller.is_connected("web"));
}

#[tokio::test]
async fn probes_of_a_host_are_batched_and_begin_again_with_the_next_session() {
    let (dir, host, mut controller) = joined().await;
    let _agent = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    let (run, web) = (RunId::generate(), name("web"));
    let spec = ProbeSpec {
        name: "port".into(),
        role: ProbeRole::Guard,
        check: ProbeCheck {
            kind: "tcp".into(),
            params: [("address".to_owned(), controller.address.to_string().into())]
                .into_iter()
                .collect(),
        },
        from: Prober::Hosts(vec![web.clone()]),
        every_ms: 100,
        timeout_ms: 100,
        tolerate: Tolerance::Count(0),
        breaks: 3,
    };
    controller.dispatcher.probe_start(&web, &run, &spec).unwrap();
    let batch = |said| match said {
        HostEvent::Samples { run: of, samples, .. } if of == run => Some(samples),
        _ => None,
    };
    let samples = controller.hears("samples", batch).await;
    assert!(
        samples.len() > 1
            && samples
                .iter()
                .all(|s| s.prober == SampledBy::Host(HostName::parse("web").unwrap()) && s.probe == "port"),
        "{samples:?}"
    );
    controller.dispatcher.hang_up();
    controller.hears("the session has ended", lost).await;
    controller.hears("samples of the next session", batch).await;
    controller.dispatcher.probe_stop(&web, &run);
    drop(dir);
}

fn report(injection: &InjectionId, agent_seq: u64) -> v1::InjectionReport {
    let refused = proto_model::problem::Refusal::new("test", "", "an end");
    v1::InjectionReport {
        injection: injection.to_string(),
        run: RunId::generate().to_string(),
        agent_seq,
        boot_id: "boot-of-i".into(),
        boot_ms: 1,
        fact: Some(v1::injection_report::Fact::Refused(refused.into())),
    }
}

#[tokio::test]
async fn a_host_that_goes_away_while_it_is_taken_in_is_lost_and_not_connected_for_ever() {
    let (_dir, host, mut controller) = joined().await;
    let mut old = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    // Nobody listens: ends fill what waits for the rest of the controller, and the next arrival has no room.
    for seq in 1..=80 {
        old.say(Body::Report(report(&InjectionId::generate(), seq))).await;
    }
    eventually("nothing more fits", || controller.said.len() == controller.said.max_capacity()).await;
    let new = Bare::dial(host.path(), controller.address, hello("i", "m"));
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(700), new).await.is_err(),
        "it is not taken in yet"
    );
    drop(old);
    // Time for the controller to notice, while there is still no room; less of it can only hide a fault, never cause one.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    controller.hears("the loss", lost).await;
    eventually("not connected", || !controller.is_connected("web")).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_session_and_is_not_taken() {
    let (_dir, host, mut controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let id = InjectionId::generate();
    let large = v1::InjectionReport {
        run: "r".repeat(proto_transport::MAX_MESSAGE),
        ..report(&id, 1)
    };
    bare.say(Body::Report(large)).await;
    let mut taken = false;
    controller
        .hears("the session is over", |said| {
            taken |= matches!(said, HostEvent::Report { .. });
            lost(said)
        })
        .await;
    assert!(!taken);
    let huge = v1::RenewRequest {
        csr_der: vec![0; proto_transport::MAX_MESSAGE + 1],
    };
    let refused = crate::agent::client(host.path(), controller.address)
        .await
        .renew(huge)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}
