//! One transaction of nf_tables: messages that the kernel carries out together or not at all, each with its deed in words.

use std::io;
use std::net::{IpAddr, SocketAddr};

use agent_view::net::listing::header;
use agent_view::net::names::{Base, TABLE, comment_data};
use agent_view::net::{Netfilter, NetfilterError};
use netlink_bindings::nftables::{Chained, Nfgenmsg, Request, SetElemFlags, SetFlags};

use super::commit;
use super::expressions::{QueueBy, Rule};
use super::field::Family;
use super::interval::{Element, Spans};

/// Elements in one message: an attribute holds at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// Messages that one batch may hold; numbers are reserved for that many.
const MESSAGES: u32 = 65_536;
/// The subsystem that a batch is for (NFNL_SUBSYS_NFTABLES).
const NF_TABLES: u16 = 10;
/// The policy of our base chains: whatever we do not end goes on.
const ACCEPT: u32 = 1;

/// A transaction that was not carried out; nothing of it was.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {why}")]
pub(super) struct BatchError {
    action: String,
    /// Said in the message already, so it is not told as a source as well.
    pub(super) why: NetfilterError,
}

impl BatchError {
    pub fn io(action: String, source: io::Error) -> Self {
        Self {
            action,
            why: NetfilterError::Io { action: "failed", source },
        }
    }

    /// Somebody else changed rules between our look and our deed.
    pub fn was_overtaken(&self) -> bool {
        let overtaken = [libc::ERESTART, libc::EAGAIN, libc::EINTR, libc::ENOENT, libc::EBUSY];
        self.why.errno().is_some_and(|errno| overtaken.contains(&errno)) || matches!(self.why, NetfilterError::Restless)
    }
}

impl From<NetfilterError> for BatchError {
    fn from(why: NetfilterError) -> Self {
        Self {
            action: "ask netfilter".into(),
            why,
        }
    }
}

impl From<BatchError> for io::Error {
    fn from(error: BatchError) -> Self {
        let text = error.to_string();
        io::Error::new(io::Error::from(error.why).kind(), text)
    }
}

/// What sort of key a set has: the number by which the nft tool shows it, and its length in bytes.
#[derive(Debug, Clone, Copy)]
struct KeyType {
    shown_as: u32,
    length: u32,
}

impl KeyType {
    /// An address and a port: the tool writes the number of each part (7, 8 and 13) in six bits.
    fn endpoint(family: Family) -> Self {
        const PORT: u32 = 13;
        let (address, length) = match family {
            Family::V4 => (7, 4),
            Family::V6 => (8, 16),
        };
        Self {
            shown_as: address << 6 | PORT,
            length: length + 4,
        }
    }
}

pub(super) struct Batch {
    messages: Chained<'static>,
    first_seq: u32,
    calls: Vec<String>,
    sets: u32,
    queue_by: QueueBy,
}

impl Batch {
    /// With a generation, the kernel refuses the batch when any rule anywhere was changed since.
    pub fn begin(kernel: &mut Netfilter, generation: Option<u32>) -> Self {
        let first_seq = kernel.next_seq(MESSAGES);
        let mut batch = Self {
            messages: Chained::new(first_seq),
            first_seq,
            calls: Vec::new(),
            sets: 0,
            queue_by: QueueBy::Expression,
        };
        let mut begin = batch.message("begin a transaction".into()).op_batch_begin_do(&batch_header());
        if let Some(generation) = generation {
            begin.encode().push_genid(generation);
        }
        drop(begin);
        batch
    }

    /// All of it, or nothing and an error that names the message that was refused.
    pub fn commit(mut self, kernel: &mut Netfilter) -> Result<(), BatchError> {
        let last = self.calls.len() - 1;
        self.messages.request().op_batch_end_do(&batch_header());
        let finished = self.messages.finalize();
        commit::commit(kernel, finished.buf(), self.first_seq, last).map_err(|why| {
            let index = match &why {
                NetfilterError::Refused { index, .. } => *index,
                _ => None,
            };
            let action = index.and_then(|i| self.calls.get(i).cloned());
            BatchError {
                action: action.unwrap_or_else(|| "commit the transaction".into()),
                why,
            }
        })
    }

    fn message(&mut self, action: String) -> Request<'_> {
        self.calls.push(action);
        self.messages.request()
    }

    pub fn add_table(&mut self) {
        let message = self.message("add the table inet fracas".into()).set_create();
        message.op_newtable_do(&header()).encode().push_name(TABLE).push_flags(0);
    }

    pub fn remove_table(&mut self) {
        let message = self.message("remove the table inet fracas".into());
        message.op_deltable_do(&header()).encode().push_name(TABLE);
    }

    pub fn add_base_chain(&mut self, base: Base) {
        let message = self.message(format!("add the base chain {}", base.name())).set_create();
        let mut message = message.op_newchain_do(&header());
        message
            .encode()
            .push_table(TABLE)
            .push_name_bytes(base.name().as_bytes())
            .nested_hook()
            .push_num(base.hook())
            .push_priority(base.priority())
            .end_nested()
            .push_policy(ACCEPT)
            .push_type(c"filter");
    }

    /// Refused when there is such a chain.
    pub fn add_chain(&mut self, name: &str) {
        let message = self.message(format!("add the chain {name}")).set_create().set_excl();
        message
            .op_newchain_do(&header())
            .encode()
            .push_table(TABLE)
            .push_name_bytes(name.as_bytes());
    }

    pub fn remove_chain(&mut self, name: &str) {
        let message = self.message(format!("remove the chain {name}"));
        message
            .op_delchain_do(&header())
            .encode()
            .push_table(TABLE)
            .push_name_bytes(name.as_bytes());
    }

    /// How rules that are added from here on send packets to queues.
    pub fn queue_by(&mut self, by: QueueBy) {
        self.queue_by = by;
    }

    /// At the end of the chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule, comment: &str) {
        let action = format!("add a rule to the chain {chain}, which needs the kernel's {}", rule.needs());
        let queue_by = self.queue_by;
        let message = self.message(action).set_create().set_append();
        let mut message = message.op_newrule_do(&header());
        let rule_attributes = message.encode().push_table(TABLE).push_chain_bytes(chain.as_bytes());
        rule.encode(rule_attributes.nested_expressions(), queue_by)
            .end_nested()
            .push_userdata(&comment_data(comment));
    }

    pub fn remove_rule(&mut self, chain: &str, handle: u64) {
        let message = self.message(format!("remove rule {handle} of the chain {chain}"));
        message
            .op_delrule_do(&header())
            .encode()
            .push_table(TABLE)
            .push_chain_bytes(chain.as_bytes())
            .push_handle(handle);
    }

    /// A set of spans of keys, with its elements. Refused when there is such a set.
    pub fn add_interval_set(&mut self, name: &str, spans: &Spans) {
        let shown_as = match spans.width() {
            4 => 7,
            16 => 8,
            _ => 13,
        };
        let length = u32::try_from(spans.width()).unwrap_or(0);
        self.add_set(name, SetFlags::Interval as u32, KeyType { shown_as, length });
        self.add_spans(name, spans);
    }

    /// Empties the set and fills it again; a packet sees the old elements or the new ones.
    pub fn replace_spans(&mut self, name: &str, spans: &Spans) {
        self.empty_set(name);
        self.add_spans(name, spans);
    }

    fn empty_set(&mut self, name: &str) {
        let message = self.message(format!("empty the set {name}"));
        message
            .op_delsetelem_do(&header())
            .encode()
            .push_table(TABLE)
            .push_set_bytes(name.as_bytes());
    }

    fn add_spans(&mut self, name: &str, spans: &Spans) {
        for some in spans.elements().chunks(ELEMENTS_PER_MESSAGE) {
            self.add_elements(name, some);
        }
    }

    fn add_elements(&mut self, name: &str, elements: &[Element]) {
        let message = self
            .message(format!("add {} elements to the set {name}", elements.len()))
            .set_create();
        let mut message = message.op_newsetelem_do(&header());
        let attributes = message.encode().push_table(TABLE).push_set_bytes(name.as_bytes());
        let mut list = attributes.nested_elements();
        for element in elements {
            let mut encoded = list.nested_elem().nested_key().push_value(&element.key).end_nested();
            if element.is_end {
                encoded = encoded.push_flags(&(SetElemFlags::IntervalEnd as u32).to_be_bytes());
            }
            list = encoded.end_nested();
        }
        list.end_nested();
    }

    /// A set of addresses with ports, with those of this family. Refused when there is such a set.
    pub fn add_endpoint_set(&mut self, name: &str, family: Family, endpoints: &[SocketAddr]) {
        self.add_set(name, 0, KeyType::endpoint(family));
        self.add_endpoints(name, family, endpoints);
    }

    /// Empties the set and fills it again; a packet sees the old elements or the new ones.
    pub fn replace_endpoints(&mut self, name: &str, family: Family, endpoints: &[SocketAddr]) {
        self.empty_set(name);
        self.add_endpoints(name, family, endpoints);
    }

    fn add_endpoints(&mut self, name: &str, family: Family, endpoints: &[SocketAddr]) {
        let key = |endpoint: &SocketAddr| {
            let address = match (endpoint.ip().to_canonical(), family) {
                (IpAddr::V4(v4), Family::V4) => v4.octets().to_vec(),
                (IpAddr::V6(v6), Family::V6) => v6.octets().to_vec(),
                _ => return None,
            };
            // Each part of a key fills whole registers.
            Some([address.as_slice(), &endpoint.port().to_be_bytes(), &[0; 2]].concat())
        };
        let mut keys: Vec<Vec<u8>> = endpoints.iter().filter_map(key).collect();
        keys.sort();
        keys.dedup();
        let elements: Vec<Element> = keys.into_iter().map(|key| Element { key, is_end: false }).collect();
        if !elements.is_empty() {
            self.add_elements(name, &elements);
        }
    }

    /// A set of groups (cgroup v2) by the kernel's own numbers, with its elements. Refused when there is such a set.
    pub fn add_group_set(&mut self, name: &str, ids: &[u64]) {
        let key = KeyType { shown_as: 46, length: 8 };
        self.add_set(name, 0, key);
        self.add_groups(name, ids);
    }

    /// Empties the set and fills it again; a packet sees the old elements or the new ones.
    pub fn replace_groups(&mut self, name: &str, ids: &[u64]) {
        self.empty_set(name);
        self.add_groups(name, ids);
    }

    /// The kernel compares with what it holds of a group, which is in the machine's byte order.
    fn add_groups(&mut self, name: &str, ids: &[u64]) {
        let element = |id: &u64| Element {
            key: id.to_ne_bytes().into(),
            is_end: false,
        };
        let elements: Vec<Element> = ids.iter().map(element).collect();
        self.add_elements(name, &elements);
    }

    /// The set by which the kernel ends the fault: one element per family, each with a timeout.
    pub fn add_gate_set(&mut self, name: &str, gate_ms: u64) {
        let key = KeyType { shown_as: 2, length: 1 };
        self.add_set(name, SetFlags::Timeout as u32, key);
        self.open_gate(name, gate_ms);
    }

    pub fn open_gate(&mut self, name: &str, gate_ms: u64) {
        let message = self
            .message(format!("open the gate {name} for {gate_ms} ms"))
            .set_create()
            .set_excl();
        let mut message = message.op_newsetelem_do(&header());
        let attributes = message.encode().push_table(TABLE).push_set_bytes(name.as_bytes());
        let mut list = attributes.nested_elements();
        for family in Family::BOTH {
            // The bindings write this number in the machine's byte order; the kernel reads it big-endian.
            let element = list.nested_elem().nested_key().push_value(&[family.number()]).end_nested();
            list = element.push_timeout(gate_ms.max(1).to_be()).end_nested();
        }
        list.end_nested();
    }

    /// Refused when an element has already gone.
    pub fn close_gate(&mut self, name: &str) {
        let message = self.message(format!("take the elements of the gate {name}"));
        let mut message = message.op_delsetelem_do(&header());
        let attributes = message.encode().push_table(TABLE).push_set_bytes(name.as_bytes());
        let mut list = attributes.nested_elements();
        for family in Family::BOTH {
            list = list
                .nested_elem()
                .nested_key()
                .push_value(&[family.number()])
                .end_nested()
                .end_nested();
        }
        list.end_nested();
    }

    fn add_set(&mut self, name: &str, flags: u32, key: KeyType) {
        self.sets += 1;
        let id = self.sets;
        let message = self.message(format!("add the set {name}")).set_create().set_excl();
        message
            .op_newset_do(&header())
            .encode()
            .push_table(TABLE)
            .push_name_bytes(name.as_bytes())
            .push_flags(flags)
            .push_key_type(key.shown_as)
            .push_key_len(key.length)
            .push_id(id);
    }

    pub fn remove_set(&mut self, name: &str) {
        let message = self.message(format!("remove the set {name}"));
        message
            .op_delset_do(&header())
            .encode()
            .push_table(TABLE)
            .push_name_bytes(name.as_bytes());
    }
}

fn batch_header() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.set_res_id(NF_TABLES);
    header
}
