//! The tools for files: list, read, write, unpack and pack, on folders of the host.

mod archives;
mod support;

mod hostile_archives;
mod list;
mod pack;
mod read;
mod round_trips;
mod unpack;
mod write;
