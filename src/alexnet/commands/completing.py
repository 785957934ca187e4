"""Scripts by which shells complete the whole command line: commands, flags, their values."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from alexnet.commands.flags import Flag
from alexnet.presets import RECIPES, STUDIES

Commands = Mapping[str, Sequence[Flag]]  # the words of each command, and its arguments

# what may stand for the values of a field, besides what its type says
VALUES = {
    "recipe": list(RECIPES),
    "study": list(STUDIES),
    "device": ["auto", "cpu", "cuda", "mps"],
    "weights": ["none"],
    "data": ["digits", "cifar10", "tiny-imagenet", "tiny-image10"],
}


def values(flag: Flag) -> list[str]:
    """The words that an argument may be; none where it may be anything, such as a path."""
    return flag.choices or VALUES.get(flag.field, [])


def switches(flags: Sequence[Flag]) -> list[str]:
    """Every flag of a command as it is typed."""
    found = []
    for one in flags:
        if not one.about.positional:
            found += [one.switch, *[f"--no-{one.switch[2:]}"] * one.is_switch]
    return [*found, "--help"]


def heads(commands: Commands) -> dict[str, list[str]]:
    """The first words of commands, and the second words of those that have two."""
    found: dict[str, list[str]] = {}
    for words in commands:
        first, _, second = words.partition(" ")
        found.setdefault(first, []).extend([second] * bool(second))
    return {**found, "help": list(found)}


def bash(commands: Commands) -> Iterator[str]:
    """For bash; files where nothing else is known."""
    first = heads(commands)
    yield "_alexnet() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '    local command="${COMP_WORDS[1]}" words="" flags="" places=""'
    yield f'    if [ "$COMP_CWORD" = 1 ]; then words="{" ".join(first)} --version"; fi'
    yield '    if [ "$COMP_CWORD" = 2 ]; then case "$command" in'
    for word, seconds in first.items():
        if seconds:
            yield f'        {word}) words="{" ".join(seconds)}" ;;'
    yield "    esac; fi"
    groups = "|".join(one for one, seconds in first.items() if seconds and one != "help")
    yield f'    case "$command" in {groups}) command="$command ${{COMP_WORDS[2]}}" ;; esac'
    yield '    case "$command" in'
    for words, flags in commands.items():
        places = [one for flag in flags if flag.about.positional for one in values(flag)]
        yield f'        "{words}") flags="{" ".join(switches(flags))}"; places="{" ".join(places)}"'
        yield '            case "$before" in'
        for flag in flags:
            if not flag.about.positional and values(flag):
                yield f'                {flag.switch}) words="{" ".join(values(flag))}" ;;'
        yield "            esac ;;"
    yield "    esac"
    yield '    if [ -z "$words" ]; then case "$word" in'
    yield '        -*) words="$flags" ;;'
    yield '        *) case "$before" in --*) ;; *) words="$places" ;; esac ;;'
    yield "    esac; fi"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _alexnet alexnet"


def zsh(commands: Commands) -> Iterator[str]:
    """For zsh, which reads what is written for bash."""
    yield "autoload -U +X compinit && compinit"
    yield "autoload -U +X bashcompinit && bashcompinit"
    yield from bash(commands)


def fish(commands: Commands) -> Iterator[str]:
    """For fish, which also shows what each word is for."""
    script = """function __alexnet_is
    set -l words (commandline -opc) ""
    test "$words[2]" = "$argv[1]"; and begin
        test (count $argv) = 1; or test "$words[3]" = "$argv[2]"
    end
end
function __alexnet_place
    test (count (commandline -opc)) = $argv[1]
end"""
    yield from script.splitlines()
    for word, seconds in heads(commands).items():
        yield f"complete -c alexnet -f -n '__alexnet_place 1' -a {word}"
        for second in seconds:
            where = f"__alexnet_place 2; and __alexnet_is {word}"
            yield f"complete -c alexnet -f -n '{where}' -a {second}"
    for words, flags in commands.items():
        for flag in flags:
            known = " ".join(values(flag))
            if flag.about.positional:
                if known:
                    yield f"complete -c alexnet -n '__alexnet_is {words}' -a {shlex.quote(known)}"
                continue
            told = shlex.quote(flag.text.split(". ")[0].rstrip("."))
            given = "" if flag.is_switch else f" -x -a {shlex.quote(known)}" if known else " -r"
            for switch in [flag.switch, *[f"--no-{flag.switch[2:]}"] * flag.is_switch]:
                about = f"-l {switch[2:]} -d {told}{given}"
                yield f"complete -c alexnet -n '__alexnet_is {words}' {about}"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
