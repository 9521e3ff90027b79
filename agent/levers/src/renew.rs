//! What changes while an injection acts: the deadlines that the kernel keeps by itself, and where the controller is; it ends nothing and revives nothing.

use std::net::SocketAddr;

use crate::error::OpsError;
use crate::host_ops::{HostOps, KEY};
use crate::kinds::History;
use crate::traffic::PacketAim;

/// Lets the kernel hold what this injection pulled for `gate_ms` from now. Each lever is renewed whatever becomes of the others.
pub fn renew(history: &History, ops: &mut dyn HostOps, gate_ms: u64) -> Vec<OpsError> {
    let ops = ops.all(KEY);
    let undos = history.intents.iter().map(|(_, undo)| undo);
    undos.filter_map(|undo| undo.renew(ops, gate_ms).err()).collect()
}

/// Leaves the controller alone at these addresses from now on, whatever this injection pulled. Each lever is told whatever becomes of the others.
pub fn spare(history: &History, ops: &mut dyn HostOps, controllers: &[SocketAddr]) -> Vec<OpsError> {
    let ops = ops.all(KEY);
    let aim = PacketAim::Controllers(controllers.to_vec());
    let undos = history.intents.iter().map(|(_, undo)| undo);
    undos.filter_map(|undo| undo.retarget(ops, &aim).err()).collect()
}
