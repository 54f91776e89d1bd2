"""What bash, zsh and fish complete: verbs and options, written out, so that no key press starts a program."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packages.verbs import Parameter, Verb


def bash(program: Verb) -> str:
    """For /usr/share/bash-completion/completions/waystation."""
    cases = []
    for verb in program.all():
        options = " ".join(spelling for each in _options(verb) for spelling in each.spellings)
        cases.append(f"        {quote(_path(verb))}) verbs={quote(_names(verb))} options={quote(options)} ;;\n")
    return f"""\
# bash completion for waystation
_waystation() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} at='' verbs='' options='' word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "${{at:+$at }}$word" in
            {"|".join(quote(_path(each)) for each in program.all()[1:])}) at=${{at:+$at }}$word ;;
        esac
    done
    case $at in
{"".join(cases)}    esac
    [[ $cur != -* ]] || verbs=$options
    mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$cur")
}}
complete -o default -F _waystation waystation
"""


def zsh(program: Verb) -> str:
    """For /usr/share/zsh/vendor-completions/_waystation."""
    cases = []
    for verb in program.all():
        specs = [_zsh_option(each) for each in _options(verb)]
        if verb.verbs:
            specs.append("'*:verb:((" + " ".join(_zsh_verb(each) for each in verb.verbs) + "))'")
        else:
            specs.append("'*:file:_files'")
        cases.append(f"        {quote(_path(verb))}) _arguments -S {' '.join(specs)} ;;\n")
    return f"""\
#compdef waystation
_waystation() {{
    local at='' word
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        case "${{at:+$at }}$word" in
            {"|".join(f"({quote(_path(each))})" for each in program.all()[1:])}) at="${{at:+$at }}$word" ;;
        esac
    done
    case $at in
{"".join(cases)}    esac
}}
_waystation "$@"
"""


def fish(program: Verb) -> str:
    """For /usr/share/fish/vendor_completions.d/waystation.fish."""
    known = " ".join(quote(" ".join(each.path) if each.path[1:] else f" {each.path[0]}") for each in program.all()[1:])
    lines = []
    for verb in program.all():
        here = f"complete -c waystation -n {quote(f'__waystation_at {_path(verb)}'.rstrip())}"
        lines += [f"{here} -f -a {each.path[-1]} -d {_fish(each.summary)}" for each in verb.verbs]
        for option in _options(verb):
            spellings = " ".join(f"-l {each.removeprefix('--')}" for each in option.spellings)
            lines.append(f"{here} {spellings}{' -r' if option.takes_value else ''} -d {_fish(option.help)}")
    return f"""\
# fish completion for waystation
function __waystation_at
    set -l at
    for word in (commandline -opc)[2..]
        if contains -- "$at $word" {known}
            set -a at $word
        end
    end
    test "$at" = "$argv"
end
{chr(10).join(lines)}
"""


def _options(verb: Verb) -> list[Parameter]:
    return [] if verb.verbs and verb.path else [each for each in verb.parameters if each.is_option]


def _path(verb: Verb) -> str:
    return " ".join(verb.path)


def _names(verb: Verb) -> str:
    return " ".join(each.path[-1] for each in verb.verbs)


def _zsh_verb(verb: Verb) -> str:
    said = verb.summary.translate(str.maketrans("", "", "\\`$\"'")).replace(":", "\\:")  # zsh evaluates it
    return f'{verb.path[-1]}\\:"{said}"'


def _zsh_option(option: Parameter) -> str:
    said = option.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
    value = ":value:_files" if option.takes_value else ""
    return " ".join(quote(f"*{spelling}[{said}]{value}") for spelling in option.spellings)


def _fish(said: str) -> str:
    return "'" + said.replace("\\", "\\\\").replace("'", "\\'") + "'"
