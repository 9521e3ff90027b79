//! The clsact on an interface: added when there is none, removed when it is ours and nothing hangs on it.
//!
//! A clsact has no name. So we hang a filter of ours into a chain of it that nothing leads to: no packet meets that mark,
//! and whoever lists filters sees whose the clsact is. Its users are the filters of injections that hang beside the mark.

use agent_view::tc::listing::{self, CLSACT_PARENT, Filter, Hook};
use agent_view::tc::{Route, RouteError, names};
use netlink_bindings::tc::{Request, Tcmsg};

use super::bpf;
use super::order::order;
use super::request::{filter_head, never, refused};
use crate::error::OpsError;
use crate::path::{ClsactPlace, ClsactRemoval};

/// The handle of a clsact, which the kernel fixes.
const HANDLE: u32 = 0xffff_0000;
/// Where the mark lies in its chain. It is made for all protocols (ETH_P_ALL), not that any packet would come.
const MARK_PREFERENCE: u16 = 1;
const MARK_HANDLE: u32 = 1;
const EVERY_PROTOCOL: u16 = 3;

/// Adds a clsact of ours. Fails when there is one already, anybody's.
pub(crate) fn add(place: &ClsactPlace) -> Result<(), OpsError> {
    let action = format!("add a clsact to {}", place.interface);
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let mut head = head(place);
    head.handle = HANDLE;
    let mut request = Request::new().set_create().set_excl().op_newqdisc_do(&head);
    request.encode().push_kind(c"clsact");
    order(&mut kernel, &request).map_err(|e| refused(&action, e))?;
    mark(&mut kernel, place)
}

fn mark(kernel: &mut Route, place: &ClsactPlace) -> Result<(), OpsError> {
    let action = format!("mark the clsact of {} as ours", place.interface);
    let program = bpf::load("fracas_mark", &never()).map_err(|e| OpsError::new(action.clone(), e))?;
    let mut head = filter_head(place.index, Hook::In, MARK_PREFERENCE, EVERY_PROTOCOL);
    head.handle = MARK_HANDLE;
    let mut request = Request::new().set_create().set_excl().op_newtfilter_do(&head);
    let options = request.encode().push_chain(names::MARK_CHAIN).nested_options_bpf();
    let options = options.push_fd(program.raw_fd().cast_unsigned());
    options.push_name_bytes(names::MARK.as_bytes()).end_nested();
    order(kernel, &request).map_err(|e| refused(&action, e))
}

/// Removes a clsact that we made, unless somebody's filters hang on it; a clsact of somebody else stays untouched.
///
/// One without a mark is ours when `place` was recorded as empty before us and nothing hangs on it: we ended between
/// making it and marking it.
pub(crate) fn remove(place: &ClsactPlace) -> Result<ClsactRemoval, OpsError> {
    let action = format!("remove the clsact of {}", place.interface);
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let looked = standing(&mut kernel, place).map_err(|e| refused(&action, e))?;
    let Some(filters) = looked else {
        return Ok(ClsactRemoval::Gone);
    };
    let marked = filters.iter().any(Filter::is_mark);
    let foreign_filters = listing::foreign_filters(&filters).len();
    if filters.iter().any(|filter| filter.injection().is_some()) {
        return Ok(ClsactRemoval::InUse);
    }
    if foreign_filters > 0 {
        return if marked {
            hand_over(&mut kernel, place, foreign_filters)
        } else {
            Ok(ClsactRemoval::Foreign)
        };
    }
    if !marked && !place.was_absent {
        return Ok(ClsactRemoval::Foreign);
    }
    match order(&mut kernel, &Request::new().op_delqdisc_do(&head(place))) {
        Err(error) if !error.is_gone() && error.errno() != Some(libc::EINVAL) => Err(refused(&action, error)),
        _ => Ok(ClsactRemoval::Removed),
    }
}

/// Filters of the clsact on the interface that is meant; `None` when either is gone.
fn standing(kernel: &mut Route, place: &ClsactPlace) -> Result<Option<Vec<Filter>>, RouteError> {
    let queues = listing::queues(kernel)?;
    let there = queues
        .iter()
        .any(|q| q.link == place.index && q.parent == CLSACT_PARENT && q.kind == "clsact");
    there.then(|| listing::filters(kernel, place.index)).transpose()
}

/// Others hang on it, so it is theirs from now on: only our mark goes.
fn hand_over(kernel: &mut Route, place: &ClsactPlace, foreign_filters: usize) -> Result<ClsactRemoval, OpsError> {
    let action = format!("take our mark from the clsact of {}", place.interface);
    let mut head = filter_head(place.index, Hook::In, MARK_PREFERENCE, EVERY_PROTOCOL);
    head.handle = MARK_HANDLE;
    let mut request = Request::new().op_deltfilter_do(&head);
    request.encode().push_kind(c"bpf").push_chain(names::MARK_CHAIN);
    match order(kernel, &request) {
        Err(error) if !error.is_gone() => Err(refused(&action, error)),
        _ => Ok(ClsactRemoval::HandedOver { foreign_filters }),
    }
}

fn head(place: &ClsactPlace) -> Tcmsg {
    let mut head = Tcmsg::new();
    head.ifindex = place.index.cast_signed();
    head.parent = CLSACT_PARENT;
    head
}
