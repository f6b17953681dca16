//! DNS data and the lookup algorithm: wire names, rrsets, zones, master files.
//!
//! Who calls it: `snapshot` fills it, `dns` asks it. It knows neither Cloud Map nor sockets.

pub mod name;
pub mod rrset;

pub use name::{Name, NameError, QueryName};
pub use rrset::{RecordType, Rrset};
