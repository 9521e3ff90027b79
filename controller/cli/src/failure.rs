//! What goes wrong before or outside of a run, with its exit code; never a verdict.

use proto_model::document::{ERROR_METADATA, ErrorBody, ErrorDocument};
use proto_model::exit;
use tonic::{Code, Status};

/// Of a call that was not answered in time.
pub const MAYBE_DONE: &str = "a change may have been accepted all the same: look before you ask again";

/// Why a command could not do what was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: u8,
    pub error: Box<ErrorBody>,
    /// The file that `error.problems` point into.
    pub file: Option<String>,
    /// What the person may do about it.
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            error: Box::new(ErrorBody::new(code, message)),
            file: None,
            hint: None,
        }
    }

    /// A mistake on the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, "usage", message)
    }

    /// A failure of this machine: a file that cannot be written, a runtime that cannot start.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(exit::ERROR, "local", message)
    }

    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(exit::UNREACHABLE, "unreachable", message)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn in_file(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// What a call's failure means to the operator. `deed` completes "cannot ...".
    pub fn of_call(deed: &str, status: &Status) -> Self {
        if let Some(error) = error_document(status) {
            return Self {
                exit: exit_of(&error.code),
                error: Box::new(error),
                file: None,
                hint: None,
            };
        }
        if is_transport(status) {
            return Self::unreachable(format!(
                "cannot {deed}: the connection to the controller broke: {}",
                innermost(status)
            ));
        }
        let message = format!("cannot {deed}: {}", status.message());
        match status.code() {
            Code::Unauthenticated => Self::new(exit::NOT_AUTHENTICATED, "not_authenticated", message),
            Code::PermissionDenied => Self::new(exit::FORBIDDEN, "forbidden", message),
            Code::Unimplemented => Self::new(
                exit::ERROR,
                "unimplemented",
                format!("cannot {deed}: this controller does not know the call"),
            ),
            Code::NotFound => Self::new(exit::ERROR, "not_found", message),
            // The controller's own limit for an answer; what changes something goes on behind it.
            Code::Cancelled | Code::DeadlineExceeded => {
                Self::unreachable(format!("cannot {deed}: the controller did not answer in its time")).hint(MAYBE_DONE)
            }
            _ => Self::new(exit::ERROR, "failed", message),
        }
    }
}

/// The exit code of an error's stable word.
pub fn exit_of(code: &str) -> u8 {
    match code {
        "invalid_file" => exit::INVALID_FILE,
        "unknown_fault" | "invalid_params" | "usage" => exit::USAGE,
        "not_authenticated" => exit::NOT_AUTHENTICATED,
        "forbidden" | "approval_needed" => exit::FORBIDDEN,
        "halted" => exit::ABORTED,
        _ => exit::ERROR,
    }
}

fn error_document(status: &Status) -> Option<ErrorBody> {
    let bytes = status.metadata().get_bin(ERROR_METADATA)?.to_bytes().ok()?;
    serde_json::from_slice::<ErrorDocument>(&bytes).ok().map(|document| document.error)
}

/// Whether a call failed on its way, not at the controller.
pub fn is_transport(status: &Status) -> bool {
    let from_below = std::error::Error::source(status).is_some();
    let said_by_controller = status.metadata().get_bin(ERROR_METADATA).is_some();
    !said_by_controller && (from_below || status.code() == Code::Unavailable)
}

/// The last cause: the one that names the socket's own trouble.
fn innermost(status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::{MetadataMap, MetadataValue};

    fn status(code: &str) -> Status {
        let document = ErrorDocument {
            error: ErrorBody::new(code, "no"),
        };
        let mut metadata = MetadataMap::new();
        let bytes = serde_json::to_vec(&document).unwrap();
        metadata.insert_bin(ERROR_METADATA, MetadataValue::from_bytes(&bytes));
        Status::with_metadata(Code::Unavailable, "no", metadata)
    }

    #[test]
    fn each_word_of_the_controller_has_its_exit_code() {
        for (code, expected) in [
            ("invalid_file", 3),
            ("unknown_fault", 2),
            ("invalid_params", 2),
            ("usage", 2),
            ("not_authenticated", 4),
            ("forbidden", 5),
            ("approval_needed", 5),
            ("halted", 7),
            ("no_targets", 1),
            ("something_new", 1),
        ] {
            assert_eq!(Failure::of_call("plan", &status(code)).exit, expected, "{code}");
        }
    }

    #[test]
    fn a_call_out_of_time_may_have_been_accepted() {
        for code in [Code::Cancelled, Code::DeadlineExceeded] {
            let failure = Failure::of_call("lock the host", &Status::new(code, "Timeout expired"));
            assert_eq!(
                (failure.exit, failure.hint.as_deref()),
                (exit::UNREACHABLE, Some(MAYBE_DONE)),
                "{code:?}"
            );
        }
        assert_eq!(Failure::of_call("lock the host", &status("refused")).hint, None);
    }

    #[test]
    fn what_the_controller_says_is_not_a_broken_connection() {
        assert!(!is_transport(&status("halted")));
        assert!(is_transport(&Status::unavailable("gone")));
        assert_eq!(Failure::of_call("list", &Status::unavailable("gone")).exit, 10);
        assert_eq!(Failure::of_call("list", &Status::unauthenticated("who")).exit, 4);
        assert_eq!(Failure::of_call("list", &Status::permission_denied("no")).exit, 5);
    }
}
