//! DNS data and the lookup algorithm: wire names, rrsets, zones, master files.
//!
//! Who calls it: `snapshot` fills it, `dns` asks it. It knows neither Cloud Map nor sockets.

pub mod contents;
pub mod master_file;
pub mod name;
pub mod presentation;
pub mod rdata;
pub mod record;
pub mod rrset;
pub mod write;

pub use name::{Name, NameError, QueryName};
pub use record::Record;
pub use rrset::{RecordType, Rrset};
