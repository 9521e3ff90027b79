//! A fault's parameters between the processes: a JSON value as a flat list of its nodes, so that reading one recurses no deeper than it may.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// Parameters of faults have two or three levels.
const MAX_DEPTH: usize = 16;
/// Of all parameters of one request.
pub(crate) const MAX_NODES: usize = 1 << 15;
/// The longest text, in bytes.
const MAX_TEXT: usize = 16 << 10;

/// Whether these parameters can be handed to the agent.
pub fn check_params(params: &Value) -> Result<(), BadTree> {
    Tree::of(params).map(drop)
}

/// A value in the order in which it is written down: a list or map is followed by what is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree(Vec<Node>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    /// So many values follow.
    List(u32),
    /// So many pairs follow, each a text and a value.
    Map(u32),
}

/// Why a value cannot cross.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTree {
    #[error("parameters nested deeper than {MAX_DEPTH} levels")]
    Deep,
    #[error("parameters of more than {MAX_NODES} values")]
    Long,
    #[error("a text of more than {} KiB in the parameters", MAX_TEXT >> 10)]
    Text,
    #[error("parameters that do not hold together")]
    Broken,
}

impl Tree {
    pub fn of(value: &Value) -> Result<Self, BadTree> {
        let mut nodes = Vec::new();
        push(value, 0, &mut nodes)?;
        Ok(Self(nodes))
    }

    /// How many values and names it is.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn value(self) -> Result<Value, BadTree> {
        if self.0.len() > MAX_NODES {
            return Err(BadTree::Long);
        }
        let mut nodes = self.0.into_iter();
        let value = take(&mut nodes, 0)?;
        match nodes.next() {
            None => Ok(value),
            Some(_) => Err(BadTree::Broken),
        }
    }
}

fn push(value: &Value, depth: usize, nodes: &mut Vec<Node>) -> Result<(), BadTree> {
    if depth > MAX_DEPTH {
        return Err(BadTree::Deep);
    }
    if nodes.len() >= MAX_NODES {
        return Err(BadTree::Long);
    }
    let count = |count: usize| u32::try_from(count).map_err(|_| BadTree::Long);
    match value {
        Value::Null => nodes.push(Node::Null),
        Value::Bool(flag) => nodes.push(Node::Bool(*flag)),
        Value::Number(number) => nodes.push(match (number.as_u64(), number.as_i64()) {
            (Some(unsigned), _) => Node::Unsigned(unsigned),
            (None, Some(signed)) => Node::Signed(signed),
            (None, None) => Node::Float(number.as_f64().ok_or(BadTree::Broken)?),
        }),
        Value::String(text) => nodes.push(text_node(text)?),
        Value::Array(list) => {
            nodes.push(Node::List(count(list.len())?));
            list.iter().try_for_each(|value| push(value, depth + 1, nodes))?;
        }
        Value::Object(map) => {
            nodes.push(Node::Map(count(map.len())?));
            for (key, value) in map {
                nodes.push(text_node(key)?);
                push(value, depth + 1, nodes)?;
            }
        }
    }
    Ok(())
}

fn text_node(text: &str) -> Result<Node, BadTree> {
    short(text).map(|()| Node::Text(text.to_owned()))
}

fn short(text: &str) -> Result<(), BadTree> {
    if text.len() > MAX_TEXT { Err(BadTree::Text) } else { Ok(()) }
}

fn take(nodes: &mut std::vec::IntoIter<Node>, depth: usize) -> Result<Value, BadTree> {
    if depth > MAX_DEPTH {
        return Err(BadTree::Deep);
    }
    Ok(match nodes.next().ok_or(BadTree::Broken)? {
        Node::Null => Value::Null,
        Node::Bool(flag) => Value::Bool(flag),
        Node::Unsigned(number) => number.into(),
        Node::Signed(number) => number.into(),
        Node::Float(number) => Number::from_f64(number).map(Value::Number).ok_or(BadTree::Broken)?,
        Node::Text(text) => short(&text).map(|()| Value::String(text))?,
        // A count that is a lie ends with the nodes.
        Node::List(count) => (0..count).map(|_| take(nodes, depth + 1)).collect::<Result<_, _>>()?,
        Node::Map(count) => {
            let mut map = Map::new();
            for _ in 0..count {
                let Some(Node::Text(key)) = nodes.next() else {
                    return Err(BadTree::Broken);
                };
                short(&key)?;
                let value = take(nodes, depth + 1)?;
                if map.insert(key, value).is_some() {
                    return Err(BadTree::Broken);
                }
            }
            Value::Object(map)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_cross_as_they_are() {
        for value in [
            json!(null),
            json!({"percent": 50, "pin": [0, 1], "deep": {"x": [{"y": -3}, 1.5, true, null, ""]}, "": {}}),
            json!(u64::MAX),
            json!(i64::MIN),
            json!("50%"),
        ] {
            let bytes = postcard::to_allocvec(&Tree::of(&value).unwrap()).unwrap();
            let tree: Tree = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(tree.value(), Ok(value));
        }
    }

    #[test]
    fn what_is_too_deep_too_long_or_broken_is_refused() {
        let deep = (0..20).fold(json!(1), |inside, _| json!([inside]));
        assert_eq!(Tree::of(&deep), Err(BadTree::Deep));
        let mut nodes = vec![Node::List(1); 20];
        nodes.push(Node::Null);
        assert_eq!(Tree(nodes).value(), Err(BadTree::Deep));
        assert_eq!(Tree::of(&json!(vec![0; MAX_NODES + 1])), Err(BadTree::Long));
        let long = "x".repeat(MAX_TEXT + 1);
        assert_eq!(Tree::of(&json!({ "path": long })), Err(BadTree::Text));
        assert_eq!(Tree(vec![Node::Text(long)]).value(), Err(BadTree::Text));
        assert_eq!(Tree(vec![Node::Null; MAX_NODES + 1]).value(), Err(BadTree::Long));
        let text = |text: &str| Node::Text(text.to_owned());
        for nodes in [
            vec![],
            vec![Node::List(u32::MAX)],
            vec![Node::Null, Node::Null],
            vec![Node::Map(1), Node::Null, Node::Null],
            vec![Node::Map(2), text("a"), Node::Null, text("a"), Node::Null],
            vec![Node::Float(f64::NAN)],
        ] {
            assert_eq!(Tree(nodes.clone()).value(), Err(BadTree::Broken), "{nodes:?}");
        }
    }
}
