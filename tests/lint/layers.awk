# A file may include its own layer and those below it.  Borders keep each library behind one folder.
BEGIN {
    split("include daemon/util client models daemon/device daemon/placement daemon/channel " \
          "daemon/engine daemon/scheduler daemon/protocol daemon/socket daemon/service", rank_of)
    for (i in rank_of) rank[rank_of[i]] = i + 0
    rank["daemon"] = 99
    border["level_zero/"] = "daemon/device/level_zero"
    border["xf86drm.h"] = "daemon/device/drm"
    border["cjson/cJSON.h"] = "daemon/protocol client daemon/util/json"
    border["microhttpd.h"] = "daemon/socket"
    border["uv.h"] = "daemon/service daemon/socket"
    border["systemd/"] = border["ini.h"] = "daemon/service"
    border["curl/"] = "client/bench client/pull/"
    border["zlib.h"] = "daemon/device/drm"
    border["pcre2.h"] = "models/tokenizer"
    border["CL/"] = ""
}
function layer(path,   dir) {
    for (dir = path; sub(/\/[^\/]*$/, "", dir);) if (dir in rank) return rank[dir]
    return path ~ /^octarc/ ? rank["include"] : 0
}
/^#include [<"]/ {
    match($0, /[<"][^>"]*/); inc = substr($0, RSTART + 1, RLENGTH - 1)
    if (layer(FILENAME) && layer(inc) > layer(FILENAME))
        bad = bad FILENAME ":" FNR ": includes " inc ", a layer above its own\n"
    for (lib in border)
        if (index(inc, lib) == 1) {
            ok = FILENAME ~ /^tests\//; n = split(border[lib], dirs)
            for (i = 1; i <= n; i++) ok = ok || index(FILENAME, dirs[i]) == 1
            if (!ok) bad = bad FILENAME ":" FNR ": " lib " belongs to " border[lib] "\n"
        }
}
END { if (bad) { printf "%s", bad; exit 1 } }
