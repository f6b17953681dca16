//! Queries that [`super::answer()`] defers: answered through hickory's handler, off the workers' threads.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;

use super::answer::Transport;
use super::handler::Handler;
use super::query::HEADER_OCTETS;

/// Answers what is deferred.
pub struct Deferred {
    handler: Handler,
}

impl Deferred {
    /// Answers through `handler`.
    pub fn new(handler: Handler) -> Deferred {
        Deferred { handler }
    }

    /// The reply to a query, without a length before it; `None` when there is none. What hickory cannot read, a
    /// signature perhaps, is a format error: no query is met with silence (RFC 8906 §3).
    pub async fn reply(&self, query: Vec<u8>, client: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
        let protocol = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp { .. } => Protocol::Tcp,
        };
        let header = query.first_chunk().copied();
        let Ok(request) = Request::from_bytes(query, client, protocol) else {
            return header.map(unreadable);
        };
        let sent = Sent::default();
        self.handler.handle_request::<_, TokioTime>(&request, sent.clone()).await;
        let mut octets = sent.octets.lock().unwrap_or_else(PoisonError::into_inner);
        Some(std::mem::take(&mut *octets)).filter(|octets| !octets.is_empty())
    }
}

/// The reply to a message of which only the header can be read: the same id, opcode and RD.
fn unreadable([id0, id1, flags, ..]: [u8; HEADER_OCTETS]) -> Vec<u8> {
    const OPCODE_AND_RD: u8 = 0x79;
    const RESPONSE: u8 = 0x80;
    const FORMERR: u8 = 1;
    let mut reply = vec![id0, id1, RESPONSE | flags & OPCODE_AND_RD, FORMERR];
    reply.resize(HEADER_OCTETS, 0);
    reply
}

/// Keeps what would be sent.
#[derive(Clone, Default)]
struct Sent {
    octets: Arc<Mutex<Vec<u8>>>,
}

#[async_trait::async_trait]
impl ResponseHandler for Sent {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = Vec::with_capacity(1024);
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        *self.octets.lock().unwrap_or_else(PoisonError::into_inner) = octets;
        Ok(info)
    }
}
