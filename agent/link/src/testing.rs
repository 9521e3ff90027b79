//! Requests as the agent reads them, for suites that make up bytes; no shipped program is built with it.

use agent_warden::StartOrder;
use proto_model::injection::Wish;

use crate::frame::MAX_REQUEST;
use crate::request::{Numbered, Request, WishFrame};

/// The longest frame that the agent takes for a request.
pub const LONGEST: usize = MAX_REQUEST;

/// A request that the agent would take.
pub struct ReadRequest(Numbered);

impl ReadRequest {
    /// `None` when the bytes are no request, or one out of bounds.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Numbered::decode(bytes).ok().map(Self)
    }

    /// As a session sends it.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        self.0.encode().map_err(|error| error.to_string())
    }

    /// What it asks to be injected, as the warden gets it, without those whose parameters do not hold together.
    pub fn wishes(self) -> Vec<Wish> {
        match self.0.request {
            Request::Start(frame) => StartOrder::try_from(frame).map(|order| order.wish).into_iter().collect(),
            Request::Preflight(frames) => frames.into_iter().filter_map(|frame| Wish::try_from(frame).ok()).collect(),
            _ => Vec::new(),
        }
    }
}

/// The wish as it arrives when it is sent once more.
pub fn cross(wish: &Wish) -> Result<Wish, String> {
    let frame = WishFrame::try_from(wish.clone()).map_err(|error| error.to_string())?;
    Wish::try_from(frame).map_err(|error| error.to_string())
}
