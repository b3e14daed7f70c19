# shellcheck shell=bash
# What is put into the guest's initramfs, as functions that fill a folder ROOT.

# kernel_version ARCH KERNEL MODULES: the kernel's release. A bzImage's boot header points to it
# (Documentation/arch/x86/boot.rst); of an Arm Image it is that of its modules.
kernel_version() {
    local at version
    if [[ $1 == arm64 ]]; then
        ls "$3/lib/modules"
        return
    fi
    at=$(od -An -tu2 -j $((0x20e)) -N 2 "$2")
    version=$(dd if="$2" bs=1 skip=$((at + 0x200)) count=128 status=none | tr '\0' ' ')
    echo "${version%% *}"
}

# link_modules TREE MODULES: the modules of a tree that is built, as if they had been installed.
link_modules() {
    local tree=$1 version to
    version=$(<"$tree/include/config/kernel.release")
    to=$2/lib/modules/$version
    mkdir -p "$to/kernel"
    cp "$tree"/modules.{order,builtin,builtin.modinfo} "$to/"
    sed "s|^|$tree/|; s|\.k\?o\$|.ko|" "$tree/modules.order" | (cd "$to/kernel" && xargs -r -d '\n' ln -s -t .)
    depmod -b "$2" "$version"
}

# plant_base ROOT INIT MODULES VERSION [SYSROOT]: the tools, /init, KVM's modules and those which they need. The tools are
# this host's, or those of another architecture's SYSROOT, with all libraries that are there.
plant_base() {
    local root=$1 init=$2 modules=$3 version=$4 sysroot=${5-} program dir file
    mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,etc/modprobe.d,guest,root,tmp}
    for dir in bin lib lib64; do ln -s "usr/$dir" "$root/$dir"; done
    ln -s bin "$root/usr/sbin"
    ln -s usr/bin "$root/sbin"
    cp "$init" "$root/init"
    printf '%s\n' 'root:x:0:0::/root:/bin/sh' 'nobody:x:65534:65534::/:/bin/sh' >"$root/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"

    # Debian's busybox prefers its own applets to what is in PATH, in its shell and wherever it runs another program:
    # all that does so is the real one, lest it run busybox's modprobe.
    for program in busybox dash kmod env find nice nohup setsid timeout xargs; do
        file=$sysroot/usr/bin/$program
        [[ -n $sysroot ]] || file=$(command -v "$program")
        plant "$root" "$file:/usr/bin/$program"
    done
    [[ -z $sysroot ]] || (cd "$sysroot" && find usr/lib -name '*.so*' -not -path '*/modules/*' -exec cp -a --parents -t "$root" {} +)
    ln -s dash "$root/usr/bin/sh"
    for program in modprobe insmod rmmod lsmod modinfo depmod; do ln -s kmod "$root/usr/bin/$program"; done

    mkdir -p "$root/lib/modules/$version"
    cp "$modules/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$version/"
    for program in kvm kvm_amd kvm_intel virtio_pci virtio_console virtiofs; do
        # Built in, or absent from this kernel: nothing to copy.
        modprobe -C /dev/null -d "$modules" -S "$version" --show-depends "$program" 2>/dev/null || true
    done | while read -r dir file _; do
        [[ $dir != insmod ]] || (cd "$modules" && cp --parents "${file#"$modules/"}" "$root")
    done
    # Once here is quicker than at every loading in the guest.
    find "$root/lib/modules" -name '*.ko.xz' -exec busybox unxz {} +
    depmod -b "$root" "$version"
}

# plant ROOT FILE[:DEST]: a file or a folder, and the libraries of the programs in it.
plant() {
    local root=$1 file=${2%%:*} dest library
    file=$(realpath -s -e "$file") || return
    dest=$root/$file
    if [[ $2 == *:*/ ]]; then dest=$root/${2#*:}${file##*/}; elif [[ $2 == *:* ]]; then dest=$root/${2#*:}; fi
    mkdir -p "${dest%/*}"
    if [[ -d $file ]]; then cp -a "$file/." "$dest/"; else cp -L "$file" "$dest"; fi
    # ldd fails for scripts and static programs, which need nothing.
    { find -L "$file" -type f -perm /111 -exec ldd {} + 2>/dev/null || true; } |
        sed -n 's|^[^/]*\(/.*\) (0x[0-9a-f]*)$|\1|p' | sort -u | while read -r library; do
        [[ -e $root$library ]] || cp -L --parents "$library" "$root"
    done
}

# plant_errand ROOT TOKEN COMMAND [ARG]...: what /init runs, and the word by which it is known.
plant_errand() {
    local root=$1 word
    echo "$2" >"$root/guest/token"
    {
        printf exec
        for word in "${@:3}"; do printf " '%s'" "${word//\'/\'\\\'\'}"; done
        echo
    } >"$root/guest/command"
    : >"$root/guest/shares"
}

# pack ROOT: the archive. Not compressed: unpacking costs the guest more than reading it.
pack() { (cd "$1" && find . -print0 | sort -z | cpio --quiet --null -o -H newc -R 0:0); }
