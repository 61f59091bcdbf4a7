//! Loading the kernel modules that booting needs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{finit_module, ModuleInitFlags};

use crate::console::{Failure, Result};

/// Loads the modules named in `<dir>/order`, one file name of `<dir>` per line, dependencies first.
///
/// Without that file the kernel is taken to have everything built in. A module that is there already is fine. Those that
/// are not `wanted` are left out: under emulation each costs some ten milliseconds.
pub fn load_listed(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let list = dir.join("order");
    let order = match fs::read_to_string(&list) {
        Ok(order) => order,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::new(format!("read {}", list.display()), error)),
    };
    order
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && wanted(name))
        .try_for_each(|name| load(&dir.join(name)))
}

fn load(path: &Path) -> Result<()> {
    let failed = |cause: &dyn std::fmt::Display| Failure::new(format!("load module {}", path.display()), cause);
    let file = File::open(path).map_err(|error| failed(&error))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failed(&errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_means_nothing_to_load() {
        let dir = std::env::temp_dir().join(format!("pyro-agent-modules-{}", std::process::id()));
        assert!(load_listed(&dir, |_| true).is_ok());
    }

    #[test]
    fn names_the_module_that_is_missing() {
        let dir = std::env::temp_dir().join(format!("pyro-agent-modules-missing-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("order"), "\nabsent.ko\n").unwrap();
        let failure = load_listed(&dir, |_| true).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(failure.contains("load module") && failure.contains("absent.ko"), "{failure}");
    }
}
