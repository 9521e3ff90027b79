//! Requests of a session process: bytes that the agent takes for one are the same request when it is sent again.

use agent_link::testing::{LONGEST, ReadRequest, cross};

/// The bytes are one frame. The session is the part that may have been taken over, so it may send any.
pub fn check(bytes: &[u8]) {
    if bytes.len() > LONGEST {
        return;
    }
    let Some(request) = ReadRequest::decode(bytes) else { return };
    let sent = request.encode().expect("a request that was read can be sent");
    let again = ReadRequest::decode(&sent).expect("a request that was sent is read");
    // Bytes and not values: a NaN equals nothing, itself included.
    assert_eq!(again.encode().as_ref(), Ok(&sent));
    for wish in request.wishes() {
        assert_eq!(cross(&wish).as_ref(), Ok(&wish));
    }
}
