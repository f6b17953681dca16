//! DNS data and the lookup algorithm: wire names, rrsets, leaves (the instances of one service), the directory of zones and
//! names, and master files.
//!
//! `snapshot` writes the directory and `dns` looks names up in it. Nothing here depends on Cloud Map or on sockets.

pub mod contents;
pub mod directory;
pub mod file_records;
pub mod leaf;
pub mod lookup;
pub mod master_file;
pub mod name;
mod name_ref;
pub mod negative;
mod presentation;
pub mod query_name;
pub mod rdata;
pub mod record;
pub mod record_set;
pub mod records;
pub mod rrset;
pub mod serial;
pub(crate) mod short;
pub mod walk;
pub mod write;

pub use directory::{
    Directory, DirectoryWriter, FastLookup, HeldLeaf, LogNumber, Node, Prefetch, Zone, ZoneNames,
};
pub use leaf::{HostSource, Leaf, LeafSource, LeafType, Selection};
pub use lookup::{Found, Records, lookup};
pub use name::{Name, NameError};
pub use name_ref::NameRef;
pub use negative::Negative;
pub use query_name::QueryName;
pub use record::Record;
pub use record_set::{Choice, RecordSet};
pub use rrset::{RecordType, Rrset};
