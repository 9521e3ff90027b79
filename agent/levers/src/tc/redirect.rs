//! The action of a filter that sends packets to another link, as attributes; it is attached elsewhere.

use netlink_bindings::tc::{PushArrayActAttrs, PushBpfAttrs};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};

/// The packet is the action's from here on (TC_ACT_STOLEN).
const STOLEN: i32 = 4;
/// Send it out of the link (TCA_EGRESS_REDIR).
const OUT_OF_LINK: i32 = 1;
/// The number of the action in its list: the kernel reads from 1, the bindings count from 0.
const FIRST: u16 = 1;
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const PARAMETERS: u16 = 2;

/// Appends the action that sends packets to the link of this index.
pub(super) fn push<P: Pusher>(mut list: PushArrayActAttrs<PushBpfAttrs<P>>, link: u32) -> PushBpfAttrs<P> {
    let buffer = list.as_vec_mut();
    let action = push_nested_header(buffer, FIRST);
    push_header(buffer, KIND, 7);
    buffer.extend(b"mirred\0");
    let options = push_nested_header(buffer, OPTIONS);
    // struct tc_mirred: index, capabilities, what becomes of the packet, two counts; then where to.
    push_header(buffer, PARAMETERS, 28);
    for number in [0, 0, STOLEN, 0, 0, OUT_OF_LINK, link.cast_signed()] {
        buffer.extend(number.to_ne_bytes());
    }
    finalize_nested_header(buffer, options);
    finalize_nested_header(buffer, action);
    list.end_array()
}
