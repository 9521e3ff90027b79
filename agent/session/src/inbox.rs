//! Orders checked before anything else looks at them: the session's nonce, the number, and both epochs.

use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{ControllerMessage, OrderRefused};

use crate::epochs::Epochs;

/// What a session accepts next.
#[derive(Debug)]
pub(crate) struct Inbox {
    nonce: String,
    next_seq: u64,
}

impl Inbox {
    pub fn new(nonce: String) -> Self {
        Self { nonce, next_seq: 1 }
    }

    /// The order, or why it is not one for this session and this time.
    pub fn check(&mut self, message: ControllerMessage, epochs: &mut Epochs) -> Result<Body, OrderRefused> {
        let refuse = |code: &str, message: String, order_seq| OrderRefused {
            order_seq,
            code: code.to_owned(),
            message,
        };
        let seq = message.seq;
        if message.nonce != self.nonce {
            return Err(refuse("wrong_session", "the order belongs to another session".to_owned(), seq));
        }
        if seq < self.next_seq {
            return Err(refuse(
                "replayed",
                format!("order {seq} came before; expected {}", self.next_seq),
                seq,
            ));
        }
        if seq > self.next_seq {
            return Err(refuse(
                "malformed",
                format!("order {seq} came where {} was due", self.next_seq),
                seq,
            ));
        }
        self.next_seq += 1;
        match epochs.take(message.halt_epoch, message.store_epoch) {
            Ok(None) => {}
            Ok(Some(stale)) => {
                let seen = format!(
                    "halt epoch {} and store epoch {} have been seen here",
                    epochs.halt(),
                    epochs.store()
                );
                return Err(refuse(stale, seen, seq));
            }
            Err(error) => return Err(refuse("malformed", format!("the epochs cannot be kept: {error}"), seq)),
        }
        message
            .body
            .ok_or_else(|| refuse("malformed", "the order is empty, or of a newer controller".to_owned(), seq))
    }
}

#[cfg(test)]
mod tests {
    use proto_wire::v1::ProbeStop;

    use super::*;

    fn order(nonce: &str, seq: u64, halt_epoch: u64) -> ControllerMessage {
        let body = Some(Body::ProbeStop(ProbeStop { run: "r".into() }));
        ControllerMessage {
            nonce: nonce.into(),
            seq,
            halt_epoch,
            store_epoch: 1,
            body,
        }
    }

    #[test]
    fn each_order_is_taken_once_and_only_in_its_own_session_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut epochs = Epochs::open(dir.path());
        let mut inbox = Inbox::new("n".into());
        assert!(inbox.check(order("n", 1, 5), &mut epochs).is_ok());
        assert_eq!(inbox.check(order("n", 1, 5), &mut epochs).unwrap_err().code, "replayed");
        assert_eq!(inbox.check(order("m", 2, 5), &mut epochs).unwrap_err().code, "wrong_session");
        assert_eq!(inbox.check(order("n", 3, 5), &mut epochs).unwrap_err().code, "malformed");
        assert_eq!(inbox.check(order("n", 2, 4), &mut epochs).unwrap_err().code, "stale_halt_epoch");
        assert!(inbox.check(order("n", 3, 5), &mut epochs).is_ok());
    }
}
