#include "codec/mpack_push.h"

#include <msgpack/pack.h>

/* An append fails for want of memory only. */
static int append(void *ctx, const char *p, size_t n) { return pn_buf_append(ctx, p, n) == PN_OK ? 0 : -1; }

static msgpack_packer packer(pn_buf *out)
{
    msgpack_packer to;
    msgpack_packer_init(&to, out, append);
    return to;
}

static pn_status result(int of) { return of == 0 ? PN_OK : PN_ERR_NOMEM; }

pn_status pn_mpack_push_array(pn_buf *out, size_t n)
{
    PN_FAIL_IF(n > UINT32_MAX, PN_ERR_RANGE);
    msgpack_packer to = packer(out);
    return result(msgpack_pack_array(&to, n));
}

pn_status pn_mpack_push_text(pn_buf *out, pn_bytes text)
{
    PN_FAIL_IF(text.len > UINT32_MAX, PN_ERR_RANGE);
    msgpack_packer to = packer(out);
    PN_TRY(result(msgpack_pack_str(&to, text.len)));
    return pn_buf_append(out, text.ptr, text.len);
}

pn_status pn_mpack_push_bin_head(pn_buf *out, size_t n)
{
    PN_FAIL_IF(n > UINT32_MAX, PN_ERR_RANGE);
    msgpack_packer to = packer(out);
    return result(msgpack_pack_bin(&to, n));
}

pn_status pn_mpack_push_bin(pn_buf *out, pn_bytes bytes)
{
    PN_TRY(pn_mpack_push_bin_head(out, bytes.len));
    return pn_buf_append(out, bytes.ptr, bytes.len);
}

pn_status pn_mpack_push_uint(pn_buf *out, uint64_t v)
{
    msgpack_packer to = packer(out);
    return result(msgpack_pack_uint64(&to, v));
}

pn_status pn_mpack_push_int(pn_buf *out, int64_t v)
{
    msgpack_packer to = packer(out);
    return result(msgpack_pack_int64(&to, v));
}

pn_status pn_mpack_push_bool(pn_buf *out, bool v)
{
    msgpack_packer to = packer(out);
    return result(v ? msgpack_pack_true(&to) : msgpack_pack_false(&to));
}
