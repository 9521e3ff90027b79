//! What two versions of the wire's .proto files do to programs that speak the older one: every change that breaks them, in words.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use protox::prost_reflect::prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::wire::PROTOS;

/// The .proto files as the last release had them, below proto/wire.
pub const RELEASED: &str = "released/v1";

/// The wire below a folder.
pub fn read(folder: &Path) -> Result<FileDescriptorSet> {
    protox::compile(PROTOS.map(|file| folder.join(file)), [folder])
        .with_context(|| format!("compile the .proto files in {}", folder.display()))
}

/// Every message, enum and method by its full name.
#[derive(Default)]
struct Wire<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    /// What goes in and what comes out.
    methods: BTreeMap<String, String>,
}

impl<'a> Wire<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut wire = Self::default();
        for file in &set.file {
            let package = format!(".{}", file.package());
            file.message_type.iter().for_each(|message| wire.add(&package, message));
            wire.enums
                .extend(file.enum_type.iter().map(|one| (format!("{package}.{}", one.name()), one)));
            for (service, method) in file.service.iter().flat_map(|s| s.method.iter().map(move |m| (s.name(), m))) {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                let (input, output) = (stream(method.client_streaming()), stream(method.server_streaming()));
                let shape = format!("({input}{}) returns ({output}{})", method.input_type(), method.output_type());
                wire.methods.insert(format!("{package}.{service}/{}", method.name()), shape);
            }
        }
        wire
    }

    fn add(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        self.enums
            .extend(message.enum_type.iter().map(|one| (format!("{name}.{}", one.name()), one)));
        message.nested_type.iter().for_each(|nested| self.add(&name, nested));
        self.messages.insert(name, message);
    }
}

/// Changes that a program of the older version would misread or miss.
pub fn breaking(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (Wire::of(old), Wire::of(new));
    let mut wrong = Vec::new();
    for (name, message) in &old.messages {
        match new.messages.get(name) {
            Some(now) => wrong.extend(message_changes(name, message, now)),
            None => wrong.push(format!("message {name} is gone")),
        }
    }
    for (name, one) in &old.enums {
        match new.enums.get(name) {
            Some(now) => wrong.extend(enum_changes(name, one, now)),
            None => wrong.push(format!("enum {name} is gone")),
        }
    }
    for (name, shape) in &old.methods {
        match new.methods.get(name) {
            Some(now) if now != shape => wrong.push(format!("rpc {name} was {shape} and is {now}")),
            Some(_) => {}
            None => wrong.push(format!("rpc {name} is gone")),
        }
    }
    wrong
}

fn message_changes(name: &str, old: &DescriptorProto, new: &DescriptorProto) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in &old.field {
        let (number, text) = (field.number(), field.name());
        let Some(now) = new.field.iter().find(|now| now.number() == number) else {
            if !new
                .reserved_range
                .iter()
                .any(|range| (range.start()..range.end()).contains(&number))
            {
                wrong.push(format!("{name}.{text} is gone and its number {number} is not reserved"));
            }
            continue;
        };
        if now.name() != text {
            wrong.push(format!(
                "{name}: number {number} was {text} and is {}: a number is never used again",
                now.name()
            ));
        } else if kind(now) != kind(field) {
            wrong.push(format!("{name}.{text} was {} and is {}", kind(field), kind(now)));
        }
    }
    for range in &old.reserved_range {
        let again = new.field.iter().filter(|now| (range.start()..range.end()).contains(&now.number()));
        wrong.extend(again.map(|now| format!("{name}.{} uses number {}, which is reserved", now.name(), now.number())));
    }
    wrong
}

fn enum_changes(name: &str, old: &EnumDescriptorProto, new: &EnumDescriptorProto) -> Vec<String> {
    let mut wrong = Vec::new();
    for value in &old.value {
        match new.value.iter().find(|now| now.name() == value.name()) {
            Some(now) if now.number() == value.number() => {}
            Some(now) => wrong.push(format!("{name}.{} was {} and is {}", value.name(), value.number(), now.number())),
            None => wrong.push(format!("{name}.{} is gone", value.name())),
        }
    }
    wrong
}

/// What a field's bytes are, and how many there may be.
fn kind(field: &FieldDescriptorProto) -> String {
    let of = field.type_name.as_deref().unwrap_or_default();
    let place = match field.oneof_index {
        Some(_) if !field.proto3_optional() => "oneof ",
        _ => "",
    };
    format!("{place}{:?} {:?} {of}", field.label(), field.r#type())
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What became of a small wire: its messages and enums, before and after.
    fn changes(before: &str, after: &str) -> Result<Vec<String>> {
        let wire = |text: &str| -> Result<FileDescriptorSet> {
            let folder = tempfile::tempdir()?;
            fs::create_dir_all(folder.path().join("fracas/v1"))?;
            for (file, text) in PROTOS.iter().zip([text, ""]) {
                fs::write(
                    folder.path().join(file),
                    format!("syntax = \"proto3\";\npackage fracas.v1;\n{text}"),
                )?;
            }
            read(folder.path())
        };
        Ok(breaking(&wire(before)?, &wire(after)?))
    }

    #[test]
    fn what_older_programs_read_the_same_breaks_nothing() -> Result<()> {
        let before = "message A { string name = 1; uint64 old = 2; } enum E { E_UNSPECIFIED = 0; E_ONE = 1; }";
        let after =
            "message A { reserved 2; string name = 1; uint64 new = 3; } message B {} enum E { E_UNSPECIFIED = 0; E_ONE = 1; E_TWO = 2; }";
        assert_eq!(changes(before, after)?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_number_that_is_used_again_is_found() -> Result<()> {
        let found = changes("message A { string name = 1; }", "message A { string title = 1; }")?;
        assert_eq!(
            found,
            [".fracas.v1.A: number 1 was name and is title: a number is never used again"]
        );
        let found = changes("message A { reserved 2; }", "message A { string title = 2; }")?;
        assert_eq!(found, [".fracas.v1.A.title uses number 2, which is reserved"]);
        Ok(())
    }

    #[test]
    fn a_type_that_changes_is_found() -> Result<()> {
        for (before, after) in [
            ("message A { string x = 1; }", "message A { bytes x = 1; }"),
            ("message A { string x = 1; }", "message A { repeated string x = 1; }"),
            (
                "message B {} message C {} message A { B x = 1; }",
                "message B {} message C {} message A { C x = 1; }",
            ),
            ("message A { string x = 1; }", "message A { oneof y { string x = 1; } }"),
        ] {
            let found = changes(before, after)?;
            assert!(
                found.len() == 1 && found[0].starts_with(".fracas.v1.A.x was "),
                "{after}: {found:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_is_gone_without_a_reservation_is_found() -> Result<()> {
        let found = changes(
            "message A { string x = 1; string y = 2; } message B {}",
            "message A { string x = 1; }",
        )?;
        assert_eq!(
            found,
            [
                ".fracas.v1.A.y is gone and its number 2 is not reserved",
                "message .fracas.v1.B is gone"
            ]
        );
        let service = |methods: &str| format!("message A {{}} service S {{ {methods} }}");
        let found = changes(
            &service("rpc Do(A) returns (A); rpc See(A) returns (A);"),
            &service("rpc Do(A) returns (stream A);"),
        )?;
        assert_eq!(
            found,
            [
                "rpc .fracas.v1.S/Do was (.fracas.v1.A) returns (.fracas.v1.A) and is (.fracas.v1.A) returns (stream .fracas.v1.A)",
                "rpc .fracas.v1.S/See is gone"
            ]
        );
        Ok(())
    }

    #[test]
    fn an_enum_that_is_numbered_anew_is_found() -> Result<()> {
        let found = changes(
            "enum E { E_UNSPECIFIED = 0; E_ONE = 1; E_TWO = 2; }",
            "enum E { E_UNSPECIFIED = 0; E_ONE = 2; }",
        )?;
        assert_eq!(found, [".fracas.v1.E.E_ONE was 1 and is 2", ".fracas.v1.E.E_TWO is gone"]);
        Ok(())
    }
}
