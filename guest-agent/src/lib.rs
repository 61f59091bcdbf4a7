//! The guest agent of pyro.
//!
//! One thread, one epoll loop: there is nothing to lock, a fork copies exactly the thread that asks for it, and no
//! exit status can be collected between starting a child and writing it down. `init` boots the guest, `server` serves
//! the protocol of `protocol/README.md`, `poweroff` ends it.

pub mod carried;
pub mod channel;
pub mod cmdline;
pub mod command;
pub mod commands;
pub mod console;
pub mod dialogue;
pub mod exchange;
pub mod frame;
pub mod greeting;
pub mod init;
pub mod initramfs;
pub mod kept;
pub mod limits;
pub mod listener;
pub mod log;
pub mod machine;
pub mod message;
pub mod modules;
pub mod mount;
pub mod mux;
pub mod outgoing;
pub mod pipes;
pub mod poller;
pub mod poweroff;
pub mod preamble;
pub mod presence;
pub mod program;
pub mod reap;
pub mod rebirth;
pub mod root;
pub mod scheduling;
pub mod serve;
pub mod server;
pub mod session;
pub mod shelf;
pub mod spawn;
pub mod switches;
pub mod system;
pub mod tool_process;
pub mod tools;
pub mod uevent;
pub mod vsock;
pub mod waiting;
pub mod warm;
