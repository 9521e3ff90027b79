//! Messages of the wire: whatever bytes decode to is the same message when it is sent on.

use prost::Message;
use proto_model::injection::AgentReport;
use proto_wire::v1;

/// Whoever reaches a port may send the first four; hosts and the controller send the others.
pub fn check(bytes: &[u8]) {
    survives::<v1::EnrolRequest>(bytes);
    survives::<v1::RenewRequest>(bytes);
    survives::<v1::PlanRequest>(bytes);
    survives::<v1::RunRequest>(bytes);
    survives::<v1::AgentMessage>(bytes);
    survives::<v1::ControllerMessage>(bytes);
    if let Ok(report) = serde_json::from_slice::<AgentReport>(bytes) {
        let text = serde_json::to_vec(&report).expect("a report is written");
        let again: AgentReport = serde_json::from_slice(&text).expect("a report that was written is read");
        assert_eq!(again, report);
    }
}

fn survives<M: Message + Default + Clone>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let sent = message.encode_to_vec();
    let received = M::decode(sent.as_slice()).expect("a message that was written is read");
    // Bytes and not values: a NaN equals nothing, itself included.
    assert_eq!(received.encode_to_vec(), sent);
}
