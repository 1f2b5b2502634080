# SPDX-License-Identifier: MIT
"""Generated configuration: modprobe.d and depmod.d in all directories, and the kernel's command line."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.property.tree.modules import PATTERNS, spellings

PLACES = ("/etc", "/run", "/usr/local/lib", "/lib")
FILES = ("10-a.conf", "20-b.conf", "z.conf", "no-suffix", ".hidden.conf")
SPACES = (" ", " ", " ", "  ", "\t", " \t")
OPTIONS = ("debug=1", "n=1,2", 'text="a b"', "flag", "x=a=b", "-dash=1", "und_er=2")
COMMANDS = ("/bin/true", "/bin/false", "echo $CMDLINE_OPTS", "echo hello; true", "echo $MODPROBE_MODULE")

spaces = st.sampled_from(SPACES)
patterns = st.sampled_from(PATTERNS)
options = st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=2).map(" ".join)
commands = st.sampled_from(COMMANDS)
SOFTDEPS = """\
pre: alpha
post: beta
pre: alpha gam-ma post: x_y-z
pre:
alpha
post: eps0 pre: beta
pre: alpha pre: beta
post: unknown
pre: alpha  post:\tbeta
""".splitlines()
softdeps = st.sampled_from(SOFTDEPS)


def _line(*words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A line of words with any white space between them, and around."""

    def join(parts: tuple[tuple[str, str], ...]) -> str:
        return "".join(word + space for word, space in parts)

    return st.tuples(*(st.tuples(word, spaces) for word in words)).map(join)


def _word(text: str) -> st.SearchStrategy[str]:
    return st.just(text)


directives = st.one_of(
    _line(_word("alias"), patterns, spellings),
    _line(_word("alias"), spellings, spellings),
    _line(_word("blacklist"), spellings),
    _line(_word("options"), spellings, options),
    _line(_word("options"), spellings, options),
    _line(_word("install"), spellings, commands),
    _line(_word("remove"), spellings, commands),
    _line(_word("softdep"), spellings, softdeps),
)
ODD_LINES = r"""
# a comment
   # indented
alias
alias onlyone
alias a b c
alias off alpha
alias alpha off
alias bad[ alpha
alias ok[a-c] beta
alias a1 alpha\
ALIAS a b
blacklist
blacklist a b
  blacklist beta
blacklist alpha # comment
options
options alpha
options alpha a=1 \
options alpha quo"ted=1
install
install beta
install eps0 echo a \
remove
softdep
softdep beta
unknown directive here
config x
include /tmp
\
""".splitlines()
odd_lines = st.sampled_from(ODD_LINES)


def _continued(line: str, at: int) -> str:
    """The line with a continuation in the place of one of its spaces."""
    places = [index for index, letter in enumerate(line) if letter == " "]
    return f"{line[: places[at % len(places)]]}\\\n{line[places[at % len(places)] :]}" if places else line


lines = st.one_of(
    directives, directives, directives, odd_lines, st.builds(_continued, directives, st.integers(0, 5))
)
texts = st.tuples(st.lists(lines, max_size=6).map("\n".join), st.sampled_from(["\n", "\n", ""])).map("".join)
modprobe_d = st.dictionaries(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(FILES)).map(
        lambda parts: f"{parts[0]}/modprobe.d/{parts[1]}"
    ),
    texts,
    max_size=4,
)

DEPMOD_LINES = r"""
search
search updates built-in
search built-in updates extra
search kernel/fs built-in
search external built-in
search external updates built-in
search extra
search updates \
override
override alpha
override alpha *
override alpha * updates
override beta 6.1.0-test extra
override gam-ma 5.0 kernel
override x-y_z 6.* kernel/fs
external
external * /lib/modules/external
external 5.0 /nowhere
exclude
exclude updates
exclude fs
# comment
make_map_files yes
unknown x
""".splitlines()
depmod_lines = st.sampled_from(DEPMOD_LINES)
depmod_d = st.dictionaries(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(FILES)).map(
        lambda parts: f"{parts[0]}/depmod.d/{parts[1]}"
    ),
    st.lists(depmod_lines, max_size=3).map(lambda found: "".join(f"{line}\n" for line in found)),
    max_size=2,
)

PARAMETERS = (".debug=1", ".n=3", ".flag", ".x=a,b", '.text="a b"', ".", ".=", ".a.b=1")
WORDS = """\
quiet
root=/dev/sda1
--
init=/bin/sh
a.b.c=1
.x=1
modprobe.
modprobe.blacklist=
modprobe.blacklist=beta
modprobe.blacklist=alpha,gam-ma
modprobe.blacklist=a,b modprobe.blacklist=c
"alpha.text=a b"
"quoted word"
key="alpha.x=1 beta.y=2"
dyndbg="file drivers/usb/* +p"
ip=1.2.3.4
acpi_osi=!Windows
alpha.open="un
""".splitlines()
words = st.one_of(
    st.tuples(spellings, st.sampled_from(PARAMETERS)).map("".join),
    st.sampled_from(WORDS),
)
command_lines = st.lists(words, max_size=4).map(" ".join).flatmap(
    lambda text: st.sampled_from([f"{text}\n", text, f" {text}  \n"])
)  # fmt: skip
