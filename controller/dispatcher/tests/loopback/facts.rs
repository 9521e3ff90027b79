//! What a host states of itself: in its hello, when it changes, and with each preflight.

use controller_conductor::HostGateway;
use proto_model::catalogue::FaultKind;
use proto_model::event::{FleetEvent, FleetEventBody};
use proto_model::host::HostFacts;
use proto_model::injection::Wish;
use proto_wire::v1;
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::controller_message::Body as Order;

use crate::agent::{Agent, Bare, Told, hello};
use crate::controller::{name, now};
use crate::eventually;
use crate::sessions::joined;

/// Addresses of a host that gets one more while its session lasts.
static MORE_ADDRESSES: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn facts_that_change() -> HostFacts {
    let more = MORE_ADDRESSES.load(std::sync::atomic::Ordering::SeqCst);
    let addresses = if more { vec!["10.0.0.1", "10.0.0.2"] } else { vec!["10.0.0.1"] };
    HostFacts {
        addresses: addresses.into_iter().map(|text| text.parse().unwrap()).collect(),
        ..HostFacts::default()
    }
}

#[tokio::test]
async fn an_address_that_a_host_gets_during_its_session_is_known_and_stored() {
    let (_dir, host, controller) = joined().await;
    let _agent = Agent::start_at(host.path(), Told::default(), now, facts_that_change);
    let addresses = || controller.host("web").unwrap().facts.addresses.len();
    eventually("a session", || controller.is_connected("web")).await;
    assert_eq!(addresses(), 1);
    MORE_ADDRESSES.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("the new address", || addresses() == 2).await;
    let stored = || async {
        let record = controller.store.call(|store| store.host(&name("web"))).await.unwrap().unwrap();
        record.facts.addresses.len()
    };
    for _ in 0..100 {
        if stored().await == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(stored().await, 2);
}

#[tokio::test]
async fn a_preflight_brings_the_facts_of_that_moment() {
    let (_dir, host, controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let dispatcher = controller.dispatcher.clone();
    let wish = Wish {
        fault: FaultKind::parse("cpu.burn").unwrap(),
        params: serde_json::json!({}),
        duration_ms: 1,
        seed: 1,
        beside: vec![],
        unattended: false,
    };
    let asked = tokio::spawn(async move { dispatcher.preflight(&name("web"), vec![wish]).await });
    let request = question(&mut bare).await;
    let facts = v1::HostFacts {
        addresses: vec!["10.9.9.9".into()],
        ..v1::HostFacts::default()
    };
    let answer = v1::PreflightAnswer {
        request,
        facts: Some(facts),
        ..v1::PreflightAnswer::default()
    };
    bare.say(Body::Preflight(answer)).await;
    asked.await.unwrap().unwrap();
    let known = controller.host("web").unwrap().facts.addresses.clone();
    assert_eq!(known, ["10.9.9.9".parse::<std::net::IpAddr>().unwrap()]);
}

#[tokio::test]
async fn a_host_whose_facts_change_all_the_time_is_known_at_once_and_stored_within_its_quota() {
    const CHANGES: usize = 40;
    let (_dir, host, controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let last = |known: Option<std::net::IpAddr>| known == Some(std::net::IpAddr::from([10, 0, 0, CHANGES as u8]));
    for n in 1..=CHANGES {
        bare.say(Body::Facts(v1::HostFacts {
            addresses: vec![format!("10.0.0.{n}")],
            ..v1::HostFacts::default()
        }))
        .await;
    }
    let known = || controller.host("web").unwrap().facts.addresses.first().copied();
    eventually("the last address", || last(known())).await;
    let described = async || {
        let events = controller.store.call(|store| store.fleet_events(1_000)).await.unwrap();
        let of = |event: &&FleetEvent| matches!(event.body, FleetEventBody::HostDescribed { .. });
        events.iter().filter(of).count()
    };
    let written = described().await;
    assert!(written < CHANGES / 2, "{written} of {CHANGES} changes were written");
    // One of the next heartbeats brings the last one to the store.
    for _ in 0..100 {
        bare.say(Body::Heartbeat(v1::Heartbeat::default())).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let record = controller.store.call(|store| store.host(&name("web"))).await.unwrap().unwrap();
        if last(record.facts.addresses.first().copied()) {
            return;
        }
    }
    panic!("the last address was not stored within ten seconds");
}

/// Its time to answer begins when a host is asked: so many are asked at once, and the others wait.
#[tokio::test]
async fn a_host_that_waits_for_its_turn_is_not_asked_yet() {
    const AT_ONCE: usize = 256;
    let (_dir, host, controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..=AT_ONCE {
        let dispatcher = controller.dispatcher.clone();
        asked.spawn(async move { dispatcher.preflight(&name("web"), vec![]).await });
    }
    let mut requests = Vec::new();
    while requests.len() < AT_ONCE {
        requests.push(question(&mut bare).await);
    }
    // Less than a host may be silent.
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), bare.order()).await;
    assert!(early.is_err(), "one more is asked before another has answered: {early:?}");
    for request in requests {
        bare.say(answer_to(request)).await;
    }
    let last = question(&mut bare).await;
    bare.say(answer_to(last)).await;
    for reply in asked.join_all().await {
        reply.unwrap();
    }
}

async fn question(bare: &mut Bare) -> u64 {
    loop {
        if let Some(Order::Preflight(question)) = bare.order().await.unwrap().unwrap().body {
            return question.request;
        }
    }
}

fn answer_to(request: u64) -> Body {
    Body::Preflight(v1::PreflightAnswer {
        request,
        ..v1::PreflightAnswer::default()
    })
}
