//! The `cloudmap-dns` program.

fn main() {}
