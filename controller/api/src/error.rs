//! Errors as callers see them: a gRPC status for machines, and the whole `ErrorDocument` beside it for people.

use controller_store::StoreError;
use proto_model::catalogue::nearest;
use proto_model::document::{ERROR_METADATA, ErrorBody, ErrorDocument};
use proto_model::id::InvalidId;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Code, Status};

/// An error with its published code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError(pub ErrorBody);

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self(ErrorBody::new(code, message))
    }

    /// A template that cannot be filled is our own fault.
    pub(crate) fn drawing(error: askama::Error) -> Self {
        Self::new("internal", format!("draw the page: {error}"))
    }
}

/// What is not there, with the nearest that is, or the command that lists what there is.
pub(crate) fn not_found<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> ApiError {
    let near = nearest(name, known).map(|near| format!("; did you mean {near}?"));
    let hint = near.unwrap_or_else(|| format!("; {}", seen_in(what)));
    ApiError::new("not_found", format!("no {what} named {name:?}{hint}"))
}

/// The command that lists things of this sort.
fn seen_in(what: &str) -> String {
    match what {
        "operator's token" => "see `fracas operators list`".to_owned(),
        what => format!("see `fracas {what}s list`"),
    }
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self(body)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NotFound { what: "run", name } if name == "@last" => {
                return Self::new(
                    "not_found",
                    "there is no run yet; start one with `fracas run FILE` or `fracas attack`",
                );
            }
            StoreError::NotFound { what, name } => return not_found(what, name, []),
            StoreError::Ambiguous { .. } => "ambiguous",
            StoreError::Refused(_) => "refused",
            _ => "store",
        };
        Self::new(code, error.to_string())
    }
}

impl From<InvalidId> for ApiError {
    fn from(error: InvalidId) -> Self {
        Self::new("usage", error.to_string())
    }
}

/// The gRPC code for a published one. Programs should read the published one.
fn grpc_code(code: &str) -> Code {
    match code {
        "invalid_file" | "usage" | "unknown_fault" | "invalid_params" => Code::InvalidArgument,
        "internal" => Code::Internal,
        "not_found" => Code::NotFound,
        "not_authenticated" => Code::Unauthenticated,
        "forbidden" | "approval_needed" => Code::PermissionDenied,
        "store" => Code::Unavailable,
        _ => Code::FailedPrecondition,
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let body = fitting(error.0);
        let (code, message) = (grpc_code(&body.code), body.message.clone());
        let mut metadata = MetadataMap::new();
        let document = serde_json::to_vec(&ErrorDocument { error: body }).unwrap_or_default();
        metadata.insert_bin(ERROR_METADATA, BinaryMetadataValue::from_bytes(&document));
        Status::with_metadata(code, message, metadata)
    }
}

/// The longest message of a status, and the longest document beside it: HTTP/2 clients take headers of 16 KiB, and break the connection
/// over more; base64 makes a third more of the document.
const MESSAGE_BYTES: usize = 3 * 1024;
const DOCUMENT_BYTES: usize = 7 * 1024;

/// What fits into the headers of an answer: of a thousand hosts that refuse, as many as there is room for, and how many more there are.
fn fitting(mut body: ErrorBody) -> ErrorBody {
    if body.message.len() > MESSAGE_BYTES {
        let end = body.message.floor_char_boundary(MESSAGE_BYTES);
        body.message.truncate(end);
        body.message.push_str(" ... (the rest is left out)");
    }
    let too_long = |body: &ErrorBody| serde_json::to_vec(body).is_ok_and(|document| document.len() > DOCUMENT_BYTES);
    let mut left_out = 0_usize;
    while too_long(&body) {
        let list = body.hosts.len().max(body.problems.len());
        if list == 0 {
            break;
        }
        // An eighth at a time: a few steps, and little room is wasted.
        let kept = list - list.div_ceil(8);
        left_out += if body.hosts.len() == list {
            body.hosts.split_off(kept).len()
        } else {
            body.problems.split_off(kept).len()
        };
    }
    if left_out > 0 {
        body.message.push_str(&format!("; {left_out} more are not listed"));
    }
    body
}

#[cfg(test)]
mod tests {
    use proto_model::document::HostError;
    use proto_model::id::HostName;

    use super::*;

    #[test]
    fn what_is_not_there_comes_with_the_nearest_or_with_the_list() {
        let message = |error: ApiError| (error.0.code, error.0.message);
        let said = |text: &str| ("not_found".to_owned(), text.to_owned());
        assert_eq!(
            message(not_found("host", "cahce", ["web", "cache"])),
            said("no host named \"cahce\"; did you mean cache?")
        );
        assert_eq!(
            message(not_found("host", "x", [])),
            said("no host named \"x\"; see `fracas hosts list`")
        );
        let gone = |what: &'static str, name: &str| StoreError::NotFound {
            what,
            name: name.to_owned(),
        };
        assert_eq!(
            message(gone("run", "zzzzzz").into()),
            said("no run named \"zzzzzz\"; see `fracas runs list`")
        );
        assert_eq!(
            message(gone("operator's token", "ann").into()),
            said("no operator's token named \"ann\"; see `fracas operators list`")
        );
        assert!(message(gone("run", "@last").into()).1.contains("no run yet"));
    }

    #[test]
    fn what_a_thousand_hosts_refuse_fits_into_the_headers_of_an_answer() {
        let refusal = |number: usize| HostError {
            name: HostName::parse(&format!("host-{number}")).unwrap(),
            code: "policy".to_owned(),
            message: "this host does not allow cpu.burn for longer than 10m".to_owned(),
        };
        let message = "refused by ".to_owned() + &"h\u{f6}st-with-a-long-name, ".repeat(1_000);
        let mut error = ApiError::new("refused", message);
        error.0.hosts = (0..1_000).map(refusal).collect();
        let status = Status::from(error);
        let bytes = status.metadata().get_bin(ERROR_METADATA).unwrap().to_bytes().unwrap();
        // As they stand in the headers: in base64, and each byte outside of ASCII as three.
        assert!(
            bytes.len() * 4 / 3 + status.message().len() * 3 / 2 < 15 * 1024,
            "{} {}",
            bytes.len(),
            status.message().len()
        );
        let document: ErrorDocument = serde_json::from_slice(&bytes).unwrap();
        let listed = document.error.hosts.len();
        assert!(
            listed > 10 && status.message().contains(&format!("{} more are not listed", 1_000 - listed)),
            "{listed}"
        );
    }

    #[test]
    fn the_whole_document_travels_beside_the_status() {
        let status = Status::from(ApiError::new("halted", "halted by root: drill"));
        assert_eq!(status.code(), Code::FailedPrecondition);
        let bytes = status.metadata().get_bin(ERROR_METADATA).unwrap().to_bytes().unwrap();
        let document: ErrorDocument = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(document.error.code, "halted");
    }
}
