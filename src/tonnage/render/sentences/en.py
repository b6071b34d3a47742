"""English."""

from __future__ import annotations

SENTENCES = {
    "activation": "activation: {name} of each value, nothing learned",
    "adaptive_average_pooling": "average pooling to {size}, whatever the size before",
    "attention": "attention, {heads} heads of {head_size}: queries, keys and values of {heads} x {head_size} = {inner}"
    " each, queries from {width}",
    "average_pooling": "average pooling: the mean of each {kernel} window",
    "average_pooling_sized": "average pooling: the mean of each {kernel} window; output size {size}",
    "batch_norm": "batch normalization: each of {channels} channels to mean 0 and variance 1 over the batch, then scale"
    " and shift, 2 x {channels} = {parameters} parameters; running mean and variance are buffers",
    "batch_norm_frozen": "batch normalization of {channels} channels with nothing learned: only buffers",
    "classifier": "classifier: {width} features to {classes} scores, {arithmetic} = {parameters} parameters",
    "convolution": "convolution: {inputs} to {outputs} channels, window {kernel}; {arithmetic} = {parameters}"
    " parameters",
    "convolution_sized": "convolution: {inputs} to {outputs} channels, window {kernel}; {arithmetic} = {parameters}"
    " parameters; output size {size}",
    "cross_attention": "cross-attention, {heads} heads of {head_size}: queries from this sequence, keys and values from"
    " the other, each {width} -> {heads} x {head_size} = {inner}",
    "cross_block": "transformer block: self-attention, cross-attention and a feed-forward network"
    " {width} -> {inner} -> {width}; {parameters} parameters",
    "decoder_stack": "decoder: a stack of {blocks} {type} blocks, {parameters} parameters in all",
    "depthwise_convolution": "depthwise convolution: each of {inputs} channels by itself, window {kernel};"
    " {arithmetic} = {parameters} parameters for {outputs} channels",
    "depthwise_convolution_sized": "depthwise convolution: each of {inputs} channels by itself, window {kernel};"
    " {arithmetic} = {parameters} parameters for {outputs} channels; output size {size}",
    "dropout": "dropout: zeroes {rate} of the values in training, nothing in inference",
    "dropout_off": "dropout at a rate of 0: does nothing",
    "embedding": "embedding: a table of {rows} vectors of {width}, {rows} x {width} = {parameters} parameters",
    "encoder_stack": "encoder: a stack of {blocks} {type} blocks, {parameters} parameters in all",
    "expert_block": "transformer block: attention, then for each token {picked} of {experts} experts in place of one"
    " feed-forward network; {parameters} parameters",
    "experts": "experts: {experts} feed-forward networks of {each} parameters, {parameters} together; each token goes"
    " through {picked}, so {active} are at work",
    "feed_forward": "feed-forward network: {width} -> {inner} -> {width}, at each position by itself; {parameters}"
    " parameters",
    "feed_forward_with": "feed-forward network: {width} -> {inner} -> {width} with {activation} between, at each"
    " position by itself; {parameters} parameters",
    "fixed_position_embedding": "position embedding: {rows} x {width} = {parameters} numbers that are set and not"
    " learned",
    "gated_cross_block": "transformer block: self-attention, cross-attention and a gated feed-forward network"
    " {width} -> 2 x {inner} -> {width}; {parameters} parameters",
    "gated_feed_forward": "gated feed-forward network: {width} -> 2 x {inner}, one half gates the other,"
    " {inner} -> {width}; 3 x {width} x {inner} weights, {parameters} parameters",
    "gated_feed_forward_with": "gated feed-forward network: {width} -> 2 x {inner}, {activation} of one half times the"
    " other, {inner} -> {width}; 3 x {width} x {inner} weights, {parameters} parameters",
    "gated_transformer_block": "transformer block: attention and a gated feed-forward network"
    " {width} -> 2 x {inner} -> {width}; {parameters} parameters",
    "global_average_pooling": "global average pooling: one mean for each channel, whatever the size before",
    "group_norm": "group normalization: {channels} channels in {groups} groups of {each}, each group to mean 0 and"
    " variance 1, then scale and shift, 2 x {channels} = {parameters} parameters",
    "grouped_convolution": "grouped convolution: {inputs} to {outputs} channels in {groups} groups, window {kernel};"
    " {arithmetic} = {parameters} parameters",
    "grouped_convolution_sized": "grouped convolution: {inputs} to {outputs} channels in {groups} groups, window"
    " {kernel}; {arithmetic} = {parameters} parameters; output size {size}",
    "grouped_query_attention": "grouped-query attention: {heads} query heads of {head_size}, every {group} share one of"
    " {kv_heads} key and value heads; queries {width} -> {heads} x {head_size} = {inner}, keys and values"
    " {width} -> {kv_heads} x {head_size} = {kv_inner}",
    "gru": "GRU: {inputs} -> {hidden}, layers {layers}, directions {directions}; 3 gates, in the first layer and"
    " direction {arithmetic} = {first}; {parameters} parameters",
    "language_model_head": "language model head: from {width} a score for each of {vocabulary} tokens, {parameters}"
    " parameters of its own",
    "layer_norm": "layer normalization: {width} values to mean 0 and variance 1, then scale and shift,"
    " 2 x {width} = {parameters} parameters",
    "layer_norm_no_bias": "layer normalization: {width} values to mean 0 and variance 1, then scale, {width}"
    " parameters; no shift",
    "layer_norm_plain": "layer normalization: {width} values to mean 0 and variance 1, nothing learned",
    "lstm": "LSTM: {inputs} -> {hidden}, layers {layers}, directions {directions}; 4 gates, in the first layer and"
    " direction {arithmetic} = {first}; {parameters} parameters",
    "max_pooling": "max pooling: the largest value of each {kernel} window",
    "max_pooling_sized": "max pooling: the largest value of each {kernel} window; output size {size}",
    "multi_query_attention": "multi-query attention: {heads} query heads of {head_size} share {kv_heads} key and value"
    " head; queries {width} -> {heads} x {head_size} = {inner}, keys and values {width} -> {kv_inner}",
    "patch_embedding": "patch embedding: the image in patches of {patch}, {channels} channels, each becomes a vector of"
    " {width}; {arithmetic} = {parameters} parameters",
    "patch_embedding_sized": "patch embedding: an image of {image} in patches of {patch}, {channels} channels, is"
    " {grid} = {patches} vectors of {width}; {arithmetic} = {parameters} parameters",
    "pooler": "pooler: the vector of the first token through a linear layer {width} -> {width} and {activation};"
    " {parameters} parameters",
    "position_embedding": "position embedding: a learned vector of {width} for each position,"
    " {rows} x {width} = {parameters} parameters",
    "relative_position_bias": "relative position bias: for each of {heads} heads a number that is added to its"
    " attention scores, by distance in {buckets} buckets; {buckets} x {heads} = {parameters} parameters",
    "residual_block": "residual block: convolutions {convolutions}, {inputs} to {outputs} channels, and what came in is"
    " added to the result",
    "residual_block_projected": "residual block: convolutions {convolutions}, {inputs} to {outputs} channels; what came"
    " in is brought to that size by a {shortcut} convolution and added",
    "rms_norm": "RMS normalization: {width} values divided by their root mean square, then scale, {width} parameters",
    "rnn": "RNN: {inputs} -> {hidden}, layers {layers}, directions {directions}; in the first layer and direction"
    " {arithmetic} = {first}; {parameters} parameters",
    "rotary": "rotary position embedding: turns {size} dimensions of each head, in {pairs} pairs, by angles that grow"
    " with the position; nothing learned",
    "router": "router: from {width} a score for each of {experts} experts, the best {picked} get the token;"
    " {experts} x {width}, {parameters} parameters",
    "segment_embedding": "segment embedding: which of {rows} segments a token is in, {rows} x {width} = {parameters}"
    " parameters",
    "self_attention": "self-attention, {heads} heads of {head_size}: queries, keys and values each"
    " {width} -> {heads} x {head_size} = {inner}",
    "ssm_mixer": "state space mixer: {width} -> 2 x {inner}, half of it a gate; a convolution over {kernel} tokens;"
    " then for each of {inner} channels a state of {state} numbers, {inner} x {state} = {states}, with step, input and"
    " output chosen by the token ({rank} + 2 x {state} = {selected})",
    "stack": "a stack of {blocks} {type} blocks, {parameters} parameters in all",
    "tied_embedding": "embedding: the same table as {same}, {rows} x {width}, counted there",
    "tied_language_model_head": "language model head: from {width} a score for each of {vocabulary} tokens; tied: its"
    " weight is {same}, counted there",
    "token_embedding": "token embedding: a learned vector of {width} for each of {rows} tokens,"
    " {rows} x {width} = {parameters} parameters",
    "transformer_block": "transformer block: attention and a feed-forward network {width} -> {inner} -> {width};"
    " {parameters} parameters",
    "transposed_convolution": "transposed convolution: {inputs} to {outputs} channels, window {kernel};"
    " {arithmetic} = {parameters} parameters",
    "transposed_convolution_sized": "transposed convolution: {inputs} to {outputs} channels, window {kernel};"
    " {arithmetic} = {parameters} parameters; output size {size}",
    "vision_positions": "a learned class token in front of {patches} patches, and a learned position for each of"
    " {patches} + 1 = {positions}: ({positions} + 1) x {width} = {parameters} parameters",
    "window_bias": "relative position bias: for each of {heads} heads a number for each offset within a window of"
    " {window}: {offsets}, times {heads} = {parameters} parameters",
}

DIFFERENCES = {
    "alone_one": "{who} alone has {items}",
    "alone_many": "{who} alone have {items}",
    "shared_one": "{who} has {items}",
    "shared_many": "{who} have {items}",
    "has": "{name}{size}",
    "lacks": "no {name}",
    "is": "{name} {mine} instead of {theirs}",
    "size": "{name} {mine} instead of {theirs}",
    "fact": "{name} {mine} instead of {theirs}",
    "size_of_tensor": " {shape} = {parameters}",
    "size_of_module": " ({parameters} parameters)",
    "comma": ", ",
    "semicolon": "; ",
    "otherwise": "otherwise as {like}",
}

WORDS = {
    "block_one": "block {numbers}",
    "block_many": "blocks {numbers}",
    "layer_one": "layer {numbers}",
    "layer_many": "layers {numbers}",
    "module": "module",
    "output": "output",
    "parameters": "parameters",
    "share": "share",
    "macs": "MACs",
    "kept": "kept",
    "dtype": "dtype",
    "total": "{parameters} parameters ({short}), each counted once",
    "tied": "{tied} more under second names (tied)",
    "buffers": "{buffers} numbers in buffers",
    "folds": "a row N x Type stands for N equal blocks: parameters are of one, shares and the columns after them of"
    " all",
    "kept_note": "kept: activations held for backward when the forward is done",
    "kept_outside": "kept outside of the model's modules (by a loss, say): {size}",
    "at_least": ">= some work of it has no rule and is not counted",
    "other_shapes": "{mark} other calls or blocks gave other shapes",
    "nothing": "modules that do nothing (Identity) have no row",
    "what": "what each part is",
    "also": "{path} and {more} more",
}
