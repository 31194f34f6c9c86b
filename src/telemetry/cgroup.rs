//! How much memory the operating system gives this process.
//!
//! The memory budget (`service.memory.limit`) has a default that follows the
//! container or the unit the process runs in: see [`default_limit`].

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// The budget when nothing limits the process: 256 MiB.
pub const UNLIMITED_DEFAULT: u64 = 256 << 20;

/// Version 1 says "no limit" with a number close to the largest: `i64::MAX`
/// rounded down to a page. Nothing real is beyond this.
const V1_UNLIMITED: u64 = 1 << 62;

/// The memory limit of the control group this process is in, in bytes: the
/// smallest of its own and those of all groups above it. `None` when there is
/// no limit or no control group.
pub fn memory_limit() -> Option<u64> {
    memory_limit_at(Path::new("/"))
}

/// The default of the memory budget: three quarters of the control group's
/// limit, because code, stacks, connections and the allocator need the rest;
/// 256 MiB without a limit.
pub fn default_limit(cgroup: Option<u64>) -> u64 {
    cgroup.map_or(UNLIMITED_DEFAULT, |limit| limit / 4 * 3)
}

/// [`memory_limit`] of the system below `root`. See cgroups(7) and the kernel's
/// `admin-guide/cgroup-v2` for the files.
fn memory_limit_at(root: &Path) -> Option<u64> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    membership
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            if controllers.is_empty() {
                lowest(&root.join("sys/fs/cgroup"), path, "memory.max")
            } else if controllers.split(',').any(|name| name == "memory") {
                let mount = root.join("sys/fs/cgroup/memory");
                lowest(&mount, path, "memory.limit_in_bytes")
            } else {
                None
            }
        })
        .min()
}

/// The lowest limit from the group at `path` up to the mount itself. A folder
/// that is missing limits nothing: inside a container the path may be that of
/// the host, and the mount the container's own group.
fn lowest(mount: &Path, path: &str, file: &str) -> Option<u64> {
    let names = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut folder: PathBuf = mount.into();
    let mut limit = read_limit(&folder.join(file));
    for name in names {
        folder.push(name);
        limit = [limit, read_limit(&folder.join(file))]
            .into_iter()
            .flatten()
            .min();
    }
    limit
}

fn read_limit(file: &Path) -> Option<u64> {
    let bytes: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (bytes < V1_UNLIMITED).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_limit_at(root.path())
    }

    #[test]
    fn version_2_takes_the_lowest_on_the_way_up() {
        let limit = system(&[
            ("proc/self/cgroup", "0::/system.slice/relay.service\n"),
            (
                "sys/fs/cgroup/system.slice/relay.service/memory.max",
                "max\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "536870912\n"),
        ]);
        assert_eq!(limit, Some(512 << 20));
        let limit = system(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "100\n"),
            ("sys/fs/cgroup/a/memory.max", "200\n"),
        ]);
        assert_eq!(limit, Some(100));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let limit = system(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "268435456\n"),
        ]);
        assert_eq!(limit, Some(256 << 20));
    }

    #[test]
    fn version_1_knows_the_path_of_the_host() {
        let limit = system(&[
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/x\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "104857600\n"),
        ]);
        assert_eq!(limit, Some(100 << 20));
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(system(&[]), None);
        assert_eq!(system(&[("proc/self/cgroup", "0::/a\n")]), None);
        let limit = system(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(limit, None);
    }

    #[test]
    fn the_default_leaves_a_quarter_to_the_rest() {
        assert_eq!(default_limit(Some(400 << 20)), 300 << 20);
        assert_eq!(default_limit(None), 256 << 20);
    }
}
