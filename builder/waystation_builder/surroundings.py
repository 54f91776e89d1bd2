"""What a build finds around itself: the same each time, and no secret of the publisher's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UMASK = 0o022
WITHOUT_GIT = 315532800
"""SOURCE_DATE_EPOCH where no commit gives one: 1980-01-01, the earliest that zip archives know."""

_PASSED = """
PATH HOME USER LOGNAME TMPDIR XDG_CACHE_HOME http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY
NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS
NIX_PATH NIX_CONFIG NIX_REMOTE NIX_SSL_CERT_FILE NIX_CONF_DIR NIX_STORE_DIR NIX_STATE_DIR NIX_LOG_DIR CC CXX
PKG_CONFIG_PATH CGO_ENABLED CGO_CFLAGS CGO_LDFLAGS GOARCH GOAMD64 GOARM64 GOCACHE GOENV GOFLAGS GOINSECURE
GOMODCACHE GONOPROXY GONOSUMDB GOPATH GOPRIVATE GOPROXY GOROOT GOSUMDB GOTOOLCHAIN GOVCS CARGO_HOME RUSTUP_HOME
RUSTUP_TOOLCHAIN JAVA_HOME GRAALVM_HOME npm_config_registry npm_config_cache PIP_CERT PIP_FIND_LINKS PIP_INDEX_URL
UV_CACHE_DIR UV_CONFIG_FILE UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX UV_INDEX_URL UV_NATIVE_TLS
UV_OFFLINE UV_PYTHON_DOWNLOADS UV_PYTHON_INSTALL_DIR UV_PYTHON_INSTALL_MIRROR UV_SYSTEM_CERTS
"""
"""All that is passed on of the builder's own variables; an index's name and password (UV_INDEX_…) too."""
_PASSED_NAMES = frozenset(_PASSED.split())
_PASSED_FAMILY = "UV_INDEX_"


def build_environment(own: Mapping[str, str], *, epoch: int, asked_for: Sequence[str] = ()) -> dict[str, str]:
    """Choose a build's variables from the builder's own; `asked_for` adds a NAME, or a NAME=VALUE.

    What is not known to be harmless stays behind: a list of what to leave out would never be whole.
    """
    chosen = {name: value for name, value in own.items() if name in _PASSED_NAMES or name.startswith(_PASSED_FAMILY)}
    chosen |= {"LC_ALL": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
    for word in asked_for:
        name, is_given, value = word.partition("=")
        if is_given:
            chosen[name] = value
        elif name in own:
            chosen[name] = own[name]
    return chosen
