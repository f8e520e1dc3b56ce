/* Parameters of ModelInfer, each an entry of a map from a name to an InferParameter. */

#ifndef KANSERVE_INFER_PARAMETERS_H
#define KANSERVE_INFER_PARAMETERS_H

#include "protobuf.h"

/* Names that change what is asked for, of an input and of an output, up to NULL. */
extern const char *const PARAMETERS_OF_INPUT[], *const PARAMETERS_OF_OUTPUT[];

/* Whether an entry is valid and changes nothing, so that it can be left unread: its name is none of `changing`, which is
 * NULL where every name is such. */
int parameter_is_ignored(const proto_field *entry, const char *const *changing);

#endif
