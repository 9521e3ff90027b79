//! Whether an order is of this session, new, and not from the past; what it asks for is not looked at.

use proto_wire::v1::ControllerMessage;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::order_refused::Why;

use crate::epochs::Epochs;

/// Why an order is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderRejected {
    pub why: Why,
    pub message: String,
}

impl OrderRejected {
    pub fn new(why: Why, message: impl Into<String>) -> Self {
        Self {
            why,
            message: message.into(),
        }
    }
}

/// Stands before one session.
pub(crate) struct OrderValidator {
    nonce: String,
    /// The last order's number; the next one has the next number.
    last: u64,
}

impl OrderValidator {
    pub fn new(nonce: String) -> Self {
        Self { nonce, last: 0 }
    }

    /// Lets an order in, given the newest epochs seen before it.
    pub fn admit(&mut self, order: &ControllerMessage, seen: Epochs) -> Result<(), OrderRejected> {
        if order.nonce != self.nonce {
            return Err(OrderRejected::new(Why::WrongSession, "the order belongs to another session"));
        }
        if order.seq <= self.last {
            let message = format!("order {} came after order {}", order.seq, self.last);
            return Err(OrderRejected::new(Why::Replayed, message));
        }
        if order.seq != self.last + 1 {
            let message = format!("order {} came, order {} is missing", order.seq, self.last + 1);
            return Err(OrderRejected::new(Why::OrderMissing, message));
        }
        self.last = order.seq;
        let stale = |what: &str, of: u64, newest: u64| format!("the order's {what} epoch is {of}; this host has seen {newest}");
        match &order.body {
            None => Err(OrderRejected::new(Why::Malformed, "the order is empty or of an unknown kind")),
            Some(body) if is_harmless(body) => Ok(()),
            Some(_) if order.store_epoch < seen.store => Err(OrderRejected::new(
                Why::StaleStoreEpoch,
                stale("store", order.store_epoch, seen.store),
            )),
            Some(_) if order.halt_epoch < seen.halt => {
                Err(OrderRejected::new(Why::StaleHaltEpoch, stale("halt", order.halt_epoch, seen.halt)))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Orders that only ask or undo are obeyed whatever their epochs: a controller from an old backup must still be able to stop.
fn is_harmless(body: &Body) -> bool {
    matches!(
        body,
        Body::Welcome(_) | Body::Stop(_) | Body::Halt(_) | Body::Preflight(_) | Body::Verify(_) | Body::ProbeStop(_)
    )
}

#[cfg(test)]
mod tests {
    use proto_wire::v1::{Release, Start, Stop};

    use super::*;

    const SEEN: Epochs = Epochs { halt: 3, store: 7 };

    fn order(seq: u64, halt_epoch: u64, store_epoch: u64, body: Body) -> ControllerMessage {
        ControllerMessage {
            nonce: "n".into(),
            seq,
            halt_epoch,
            store_epoch,
            body: Some(body),
        }
    }

    fn start() -> Body {
        Body::Start(Start::default())
    }

    fn refused(result: Result<(), OrderRejected>) -> Option<Why> {
        result.err().map(|refused| refused.why)
    }

    #[test]
    fn orders_come_once_in_order_and_in_their_own_session() {
        let mut keeper = OrderValidator::new("n".into());
        let first = order(1, 3, 7, start());
        assert_eq!(refused(keeper.admit(&first, SEEN)), None);
        assert_eq!(refused(keeper.admit(&first, SEEN)), Some(Why::Replayed));
        assert_eq!(refused(keeper.admit(&order(3, 3, 7, start()), SEEN)), Some(Why::OrderMissing));
        let foreign = ControllerMessage {
            nonce: "m".into(),
            ..order(2, 3, 7, start())
        };
        assert_eq!(refused(keeper.admit(&foreign, SEEN)), Some(Why::WrongSession));
        assert_eq!(refused(keeper.admit(&order(2, 3, 7, start()), SEEN)), None);
        let empty = ControllerMessage {
            body: None,
            ..order(3, 3, 7, start())
        };
        assert_eq!(refused(keeper.admit(&empty, SEEN)), Some(Why::Malformed));
    }

    #[test]
    fn the_past_may_stop_but_neither_start_nor_release() {
        let mut keeper = OrderValidator::new("n".into());
        assert_eq!(refused(keeper.admit(&order(1, 2, 7, start()), SEEN)), Some(Why::StaleHaltEpoch));
        assert_eq!(refused(keeper.admit(&order(2, 3, 6, start()), SEEN)), Some(Why::StaleStoreEpoch));
        assert_eq!(
            refused(keeper.admit(&order(3, 2, 7, Body::Release(Release::default())), SEEN)),
            Some(Why::StaleHaltEpoch)
        );
        assert_eq!(refused(keeper.admit(&order(4, 0, 0, Body::Stop(Stop::default())), SEEN)), None);
    }

    /// Every kind of order, each with whether a controller from the past may give it; a new kind does not compile until it is here.
    fn every_order() -> Vec<(Body, bool)> {
        let known = |body: Body| {
            let asks_or_undoes = match &body {
                Body::Welcome(_) | Body::Stop(_) | Body::Preflight(_) | Body::Verify(_) | Body::ProbeStop(_) | Body::Halt(_) => true,
                Body::Start(_) | Body::Lease(_) | Body::ProbeStart(_) | Body::Release(_) | Body::Settled(_) | Body::Accept(_) => false,
                Body::Doctor(_) | Body::Trust(_) => false,
            };
            (body, asks_or_undoes)
        };
        vec![
            known(Body::Welcome(Default::default())),
            known(Body::Start(Default::default())),
            known(Body::Stop(Default::default())),
            known(Body::Lease(Default::default())),
            known(Body::Preflight(Default::default())),
            known(Body::Verify(Default::default())),
            known(Body::ProbeStart(Default::default())),
            known(Body::ProbeStop(Default::default())),
            known(Body::Halt(Default::default())),
            known(Body::Release(Default::default())),
            known(Body::Settled(Default::default())),
            known(Body::Accept(Default::default())),
            known(Body::Doctor(Default::default())),
            known(Body::Trust(Default::default())),
        ]
    }

    #[test]
    fn only_orders_that_ask_or_undo_are_obeyed_from_a_controller_of_the_past() {
        for (body, obeyed) in every_order() {
            for (halt, store, why) in [
                (SEEN.halt - 1, SEEN.store, Why::StaleHaltEpoch),
                (SEEN.halt, SEEN.store - 1, Why::StaleStoreEpoch),
            ] {
                let mut keeper = OrderValidator::new("n".into());
                let answer = refused(keeper.admit(&order(1, halt, store, body.clone()), SEEN));
                assert_eq!(answer, (!obeyed).then_some(why), "{body:?}");
            }
            let mut keeper = OrderValidator::new("n".into());
            assert_eq!(
                refused(keeper.admit(&order(1, SEEN.halt, SEEN.store, body.clone()), SEEN)),
                None,
                "{body:?}"
            );
        }
    }
}
