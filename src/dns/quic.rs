//! DNS over QUIC (RFC 9250), by hickory-server.
//!
//! The request handler is an adapter: it passes the bytes of a query to [`answer()`](super::answer::answer), and decodes
//! the reply for hickory to encode and send. Hickory answers malformed queries itself. On this transport there is no limit
//! on connections, no zone transfer and no padding of replies, because hickory does not support them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_server::Server;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::UdpSocket;

use super::tcp::WorkerPool;
use super::tls::Certificate;
use crate::snapshot::Snapshot;

pub(super) struct QuicServer {
    server: Server<Adapter>,
}

impl QuicServer {
    pub(super) fn start(
        sockets: Vec<UdpSocket>,
        certificate: &Arc<Certificate>,
        idle_timeout: Duration,
        snapshot: Arc<Snapshot>,
        workers: WorkerPool,
    ) -> io::Result<QuicServer> {
        let mut server = Server::new(Adapter { snapshot, workers });
        for socket in sockets {
            server.register_quic_listener(socket, idle_timeout, certificate.clone())?;
        }
        Ok(QuicServer { server })
    }

    pub(super) async fn stop(mut self) {
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::debug!(%error, "DNS over QUIC did not stop cleanly");
        }
    }
}

struct Adapter {
    snapshot: Arc<Snapshot>,
    workers: WorkerPool,
}

#[async_trait::async_trait]
impl RequestHandler for Adapter {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let client = request.src().ip();
        let reply = self.workers.answer_one(&self.snapshot, request.as_slice(), client);
        let sent = match reply.and_then(|octets| Message::from_vec(&octets).ok()) {
            Some(reply) => send(request, &reply, &mut response_handle).await,
            None => {
                let builder = MessageResponseBuilder::from_message_request(request);
                let response = builder.error_msg(&request.metadata, ResponseCode::ServFail);
                response_handle.send_response(response).await
            }
        };
        sent.unwrap_or_else(|error| {
            // Usually the client has closed the connection, which is no fault of the server.
            tracing::debug!(%error, %client, "reply not sent over QUIC");
            let metadata = Metadata::response_from_request(&request.metadata);
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}

async fn send<R: ResponseHandler>(
    request: &Request,
    reply: &Message,
    response_handle: &mut R,
) -> Result<ResponseInfo, NetError> {
    let builder = MessageResponseBuilder::new(&request.queries, reply.edns.as_ref());
    let (answers, additionals) = (&reply.answers, &reply.additionals);
    let response = builder.build(reply.metadata, answers, &reply.authorities, &[], additionals);
    response_handle.send_response(response).await
}
