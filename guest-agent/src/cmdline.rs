//! The agent's options on the kernel command line.

use std::path::PathBuf;

const PREFIX: &str = "pyro.";

/// How the host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// `pyro.channel=virtio-serial`: the virtio-serial port that the host named `agent`.
    VirtioSerial,
    /// `pyro.channel=vsock`: connections of the host over vsock.
    Vsock,
}

impl ChannelKind {
    /// Whether a guest that is reached in this way needs a module; those of other ways are not needed, nor is the balloon
    /// where the VMM has none.
    pub fn needs(self, module: &str) -> bool {
        match self {
            Self::VirtioSerial => !module.contains("vsock") && !module.contains("balloon"),
            Self::Vsock => !module.contains("virtio_console"),
        }
    }
}

/// Options of the form `pyro.name=value`; of an option given twice the last one counts, as in the kernel itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub channel: Option<ChannelKind>,
    /// `pyro.image`: block device with the squashfs of the environment.
    pub image: Option<PathBuf>,
    /// `pyro.disk`: block device with the ext4 that takes the changes; without it they stay in memory.
    pub disk: Option<PathBuf>,
    /// `pyro.modules`: block device with a squashfs of the contents of `/lib/modules`.
    pub modules: Option<PathBuf>,
    /// `pyro.seed`: block device with a squashfs of what `/workspace` begins with, where the host says that it does.
    pub seed: Option<PathBuf>,
    /// Words that begin with `pyro.` and mean nothing to this agent.
    pub unknown: Vec<String>,
}

impl Options {
    pub fn parse(cmdline: &str) -> Self {
        let mut options = Self::default();
        for word in cmdline.split_ascii_whitespace() {
            if let Some(option) = word.strip_prefix(PREFIX) {
                if !options.set(option) {
                    options.unknown.push(word.to_owned());
                }
            }
        }
        options
    }

    fn set(&mut self, option: &str) -> bool {
        match option.split_once('=') {
            Some(("channel", "virtio-serial")) => self.channel = Some(ChannelKind::VirtioSerial),
            Some(("channel", "vsock")) => self.channel = Some(ChannelKind::Vsock),
            Some(("image", path)) if is_absolute(path) => self.image = Some(path.into()),
            Some(("disk", path)) if is_absolute(path) => self.disk = Some(path.into()),
            Some(("modules", path)) if is_absolute(path) => self.modules = Some(path.into()),
            Some(("seed", path)) if is_absolute(path) => self.seed = Some(path.into()),
            _ => return false,
        }
        true
    }
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_options_among_the_kernels() {
        let options = Options::parse(
            "quiet reboot=t pyro.channel=virtio-serial pyro.image=/dev/vda\tpyro.disk=/dev/vdb pyro.modules=/dev/vdc\n",
        );
        assert_eq!(options.channel, Some(ChannelKind::VirtioSerial));
        assert_eq!(options.image, Some("/dev/vda".into()));
        assert_eq!(options.disk, Some("/dev/vdb".into()));
        assert_eq!(options.modules, Some("/dev/vdc".into()));
        assert_eq!(Options::parse("pyro.channel=vsock").channel, Some(ChannelKind::Vsock));
        assert_eq!(options.seed, None);
        assert_eq!(Options::parse("pyro.seed=/dev/vdd").seed, Some("/dev/vdd".into()));
        assert!(options.unknown.is_empty());
    }

    #[test]
    fn the_last_of_two_counts() {
        assert_eq!(Options::parse("pyro.image=/dev/vda pyro.image=/dev/vdz").image, Some("/dev/vdz".into()));
    }

    #[test]
    fn keeps_what_it_does_not_know() {
        let options = Options::parse("pyro.colour=red pyro.channel=pigeon pyro.disk pyro.image=vda pyrox=1");
        assert_eq!(options.unknown, ["pyro.colour=red", "pyro.channel=pigeon", "pyro.disk", "pyro.image=vda"]);
        assert_eq!(Options { unknown: vec![], ..options }, Options::default());
    }

    #[test]
    fn an_empty_line_sets_nothing() {
        assert_eq!(Options::parse("  \n"), Options::default());
    }

    #[test]
    fn a_channel_needs_its_own_modules_alone() {
        assert!(ChannelKind::VirtioSerial.needs("virtio_console.ko"));
        assert!(!ChannelKind::VirtioSerial.needs("vmw_vsock_virtio_transport.ko"));
        assert!(!ChannelKind::VirtioSerial.needs("virtio_balloon.ko"));
        assert!(!ChannelKind::Vsock.needs("virtio_console.ko"));
        assert!(ChannelKind::Vsock.needs("vmw_vsock_virtio_transport.ko"));
        assert!(ChannelKind::Vsock.needs("virtio_balloon.ko"));
    }
}
