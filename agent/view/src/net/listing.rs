//! Our table as the kernel lists it: chains, sets, rules with their counters; other tables are never looked at.

use std::collections::BTreeSet;
use std::ffi::CString;

use netlink_bindings::nftables::{ExprOps, IterableExprListAttrs, Nfgenmsg, Request};
use proto_model::id::InjectionId;

use super::names::{self, SetRole, TABLE};
use super::socket::{Netfilter, NetfilterError};

/// Family inet, both IP versions at once (NFPROTO_INET).
pub const INET: u8 = 1;

/// The header of every message about our table.
pub fn header() -> Nfgenmsg {
    Nfgenmsg {
        nfgen_family: INET,
        ..Nfgenmsg::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub chain: String,
    pub handle: u64,
    pub comment: Option<String>,
    /// Sum over the rule's counters.
    pub packets: u64,
    pub bytes: u64,
}

impl Rule {
    /// By its comment, else by its chain.
    pub fn injection(&self) -> Option<InjectionId> {
        let commented = self.comment.as_deref().and_then(|comment| comment.strip_prefix("fracas "));
        let id = commented.and_then(|rest| rest.split(' ').next());
        id.and_then(|id| InjectionId::parse(id).ok())
            .or_else(|| names::injection_of(&self.chain))
    }
}

/// Everything in our table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub chains: Vec<String>,
    pub sets: Vec<String>,
    pub rules: Vec<Rule>,
}

impl Listing {
    pub fn read(kernel: &mut Netfilter) -> Result<Self, NetfilterError> {
        Ok(Self {
            chains: chains(kernel)?,
            sets: sets(kernel)?,
            rules: rules(kernel)?,
        })
    }

    pub fn injections(&self) -> BTreeSet<InjectionId> {
        let named = self.chains.iter().chain(&self.sets).filter_map(|name| names::injection_of(name));
        named.chain(self.rules.iter().filter_map(Rule::injection)).collect()
    }
}

pub fn table_exists(kernel: &mut Netfilter) -> Result<bool, NetfilterError> {
    Ok(table_users(kernel)?.is_some())
}

/// How many chains, sets and objects the table holds, anybody's; `None` when there is no table.
pub fn table_users(kernel: &mut Netfilter) -> Result<Option<u32>, NetfilterError> {
    let request = Request::new().op_gettable_dump(&header());
    let tables = kernel.ask(&request, |(head, table)| {
        let ours = head.nfgen_family == INET && table.get_name().is_ok_and(|name| name == TABLE);
        ours.then(|| table.get_use().unwrap_or(u32::MAX))
    })?;
    Ok(tables.first().copied())
}

fn chains(kernel: &mut Netfilter) -> Result<Vec<String>, NetfilterError> {
    let request = Request::new().op_getchain_dump(&header());
    kernel.ask(&request, |(head, chain)| {
        let ours = head.nfgen_family == INET && chain.get_table().is_ok_and(|name| name == TABLE);
        ours.then(|| chain.get_name().map(|name| name.to_string_lossy().into_owned()).ok())
            .flatten()
    })
}

fn sets(kernel: &mut Netfilter) -> Result<Vec<String>, NetfilterError> {
    let mut request = Request::new().op_getset_dump(&header());
    request.encode().push_table(TABLE);
    let listed = kernel.ask(&request, |(head, set)| {
        let ours = head.nfgen_family == INET && set.get_table().is_ok_and(|name| name == TABLE);
        ours.then(|| set.get_name().map(|name| name.to_string_lossy().into_owned()).ok())
            .flatten()
    });
    match listed {
        // Some kernels (6.1) refuse to list the sets of a table that is not there; others (6.18) list none.
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        listed => listed,
    }
}

fn rules(kernel: &mut Netfilter) -> Result<Vec<Rule>, NetfilterError> {
    let mut request = Request::new().op_getrule_dump(&header());
    request.encode().push_table(TABLE);
    kernel.ask(&request, |(head, rule)| {
        if head.nfgen_family != INET || !rule.get_table().is_ok_and(|name| name == TABLE) {
            return None;
        }
        let (packets, bytes) = rule.get_expressions().map(counted).unwrap_or_default();
        Some(Rule {
            chain: rule.get_chain().ok()?.to_string_lossy().into_owned(),
            handle: rule.get_handle().ok()?,
            comment: rule.get_userdata().ok().and_then(names::comment_of),
            packets,
            bytes,
        })
    })
}

fn counted(expressions: IterableExprListAttrs<'_>) -> (u64, u64) {
    let mut sum = (0_u64, 0_u64);
    for expression in expressions.get_elem() {
        if let Ok(ExprOps::Counter(counter)) = expression.get_data() {
            sum.0 = sum.0.saturating_add(counter.get_packets().unwrap_or(0));
            sum.1 = sum.1.saturating_add(counter.get_bytes().unwrap_or(0));
        }
    }
    sum
}

/// Whether both elements of the injection's gate are there and have time left.
pub fn gate_is_open(kernel: &mut Netfilter, injection: &InjectionId) -> Result<bool, NetfilterError> {
    let left = gate_left_ms(kernel, injection)?;
    Ok(left.len() == 2 && left.iter().all(|ms| *ms > 0))
}

/// Milliseconds that each element of the gate still has; empty when the gate is closed or gone.
pub fn gate_left_ms(kernel: &mut Netfilter, injection: &InjectionId) -> Result<Vec<u64>, NetfilterError> {
    let Ok(set) = CString::new(SetRole::Gate.set_of(injection)) else {
        return Ok(Vec::new());
    };
    let mut request = Request::new().op_getsetelem_dump(&header());
    request.encode().push_table(TABLE).push_set(&set);
    let found = kernel.ask(&request, |(_, list)| {
        let elements = list.get_elements().ok()?;
        // The bindings read this number in the machine's byte order; the kernel writes it big-endian.
        Some(
            elements
                .get_elem()
                .filter_map(|e| e.get_expiration().ok().map(u64::from_be))
                .collect::<Vec<_>>(),
        )
    });
    match found {
        Ok(lists) => Ok(lists.into_iter().flatten().collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
