//! A DNS probe against a small server on loopback: addresses, none, errors, answers that are cut, and answers to other questions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, SampleResult, SampledBy, Tolerance};
use proto_model::time::Timestamp;
use proto_probes::{AddressRule, check};
use serde_json::{Value, json};

const TIMEOUT_MS: u64 = 2_000;
/// Questions that one server answers; a probe asks two.
const QUESTIONS: usize = 2;

#[derive(Clone, Copy, PartialEq)]
enum Answers {
    /// 10.0.0.9 and fd00::9.
    Addresses,
    OnlyIpv4,
    Nothing,
    NoSuchName,
    /// Over UDP only that it is too long, over TCP the addresses.
    CutOff,
    /// First one with another id, then the addresses.
    AnotherFirst,
}

fn answer(question: &[u8], answers: Answers) -> Message {
    let asked = Message::from_vec(question).unwrap();
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.queries.clone_from(&asked.queries);
    let query = &asked.queries[0];
    let data = match query.query_type() {
        RecordType::A => RData::A(A::new(10, 0, 0, 9)),
        _ => RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 9)),
    };
    let with = match answers {
        Answers::Nothing => false,
        Answers::OnlyIpv4 => query.query_type() == RecordType::A,
        Answers::NoSuchName => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            false
        }
        _ => true,
    };
    if with {
        answer.answers.push(Record::from_rdata(query.name().clone(), 60, data));
    }
    answer
}

fn serve(answers: Answers) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let stream = (answers == Answers::CutOff).then(|| TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut datagram = [0; 512];
        for _ in 0..QUESTIONS {
            let (length, from) = socket.recv_from(&mut datagram).unwrap();
            let mut answer = answer(&datagram[..length], answers);
            if answers == Answers::CutOff {
                answer.answers.clear();
                answer.metadata.truncation = true;
            }
            if answers == Answers::AnotherFirst {
                let mut other = answer.clone();
                other.metadata.id ^= 1;
                other.metadata.response_code = ResponseCode::Refused;
                socket.send_to(&other.to_vec().unwrap(), from).unwrap();
            }
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
        for _ in 0..QUESTIONS {
            let Some(listener) = &stream else { return };
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).unwrap();
            let written = answer(&question, Answers::Addresses).to_vec().unwrap();
            let length = u16::try_from(written.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &written].concat()).unwrap();
        }
    });
    address
}

async fn ask(params: Value, rule: &AddressRule) -> (SampleResult, String) {
    let Value::Object(params) = params else {
        panic!("parameters are an object")
    };
    let spec = ProbeSpec {
        name: "resolves".into(),
        role: ProbeRole::Guard,
        check: ProbeCheck {
            kind: "dns".into(),
            params,
        },
        from: Prober::Controller,
        every_ms: TIMEOUT_MS,
        timeout_ms: TIMEOUT_MS,
        tolerate: Tolerance::Count(0),
        breaks: 3,
    };
    let sample = check(&spec, rule, &SampledBy::Controller, Timestamp(0)).await;
    (sample.result, sample.error.unwrap_or_default())
}

#[tokio::test]
async fn answers_are_good_when_every_expected_address_is_among_them() {
    for (answers, expect, result, words) in [
        (Answers::Addresses, json!(["10.0.0.9", "fd00::9"]), SampleResult::Good, ""),
        (Answers::OnlyIpv4, json!(["10.0.0.9"]), SampleResult::Good, ""),
        (
            Answers::OnlyIpv4,
            json!(["fd00::9"]),
            SampleResult::Bad,
            "fd00::9 is not among the addresses: 10.0.0.9",
        ),
        (Answers::Nothing, json!([]), SampleResult::Bad, "has no address"),
        (Answers::NoSuchName, json!([]), SampleResult::Bad, "answers Non-Existent Domain"),
        (Answers::CutOff, json!(["fd00::9"]), SampleResult::Good, ""),
        (Answers::AnotherFirst, json!(["10.0.0.9"]), SampleResult::Good, ""),
    ] {
        let params = json!({ "name": "db.example", "server": serve(answers).to_string(), "expect": expect });
        let (found, why) = ask(params, &AddressRule::anything()).await;
        assert!(
            found == result && why.contains(words),
            "wanted {result:?} {words:?}, got {found:?} {why:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_may_not_be_probed_is_not_asked() {
    let server = serve(Answers::Addresses);
    let params = json!({ "name": "db.example", "server": server.to_string() });
    let (found, why) = ask(params, &AddressRule::for_controller(vec![server])).await;
    assert!(found == SampleResult::Missing && why.contains("the controller itself"), "{why}");
}

#[tokio::test]
async fn without_a_server_the_probers_own_resolver_is_asked() {
    let localhost = json!({ "name": "localhost", "expect": ["127.0.0.1"] });
    assert_eq!(ask(localhost, &AddressRule::anything()).await.0, SampleResult::Good);
    let unknown = json!({ "name": "no-such-name.invalid" });
    assert_eq!(ask(unknown, &AddressRule::anything()).await.0, SampleResult::Bad);
}
