//! Names under which what the pages do stands in the access table and the audit log.

/// A sign-in's name in the audit log; it is no call.
pub(crate) const SIGNS_IN: &str = "Pages/SignIn";
pub(crate) const HALTS: &str = "/fracas.v1.Emergency/Halt";
pub(crate) const RELEASES: &str = "/fracas.v1.Emergency/Release";

/// The call that a form of this path stands for.
pub(crate) fn call_of_form(path: &str) -> Option<&'static str> {
    match path {
        "/halt" => Some(HALTS),
        "/release" => Some(RELEASES),
        _ => None,
    }
}
