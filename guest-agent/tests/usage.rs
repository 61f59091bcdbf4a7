//! The program outside of a guest.

use std::process::Command;

#[test]
fn without_its_argument_it_says_what_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_pyro-agent")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/init of a guest"));
}
